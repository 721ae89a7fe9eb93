package db_test

import (
	"sync"
	"testing"

	"github.com/pressly/goose/v3"

	"github.com/vmthunder/vmthunder/db"
	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/migrations"
)

// usageByHand counts rows: what usage must be, of a volume type or ("") of all.
const usageByHand = `WITH v AS (SELECT x.* FROM volumes x LEFT JOIN volume_types t ON t.id = x.volume_type_id WHERE project_id = $1 AND consumes_quota AND ($2 = '' OR t.name = $2)),
	s AS (SELECT x.* FROM snapshots x LEFT JOIN volume_types t ON t.id = x.volume_type_id WHERE project_id = $1 AND consumes_quota AND ($2 = '' OR t.name = $2))
	SELECT (SELECT count(*) FROM v) AS volumes, (SELECT count(*) FROM s) AS snapshots,
		(SELECT COALESCE(sum(size_gib), 0) FROM v) + (SELECT COALESCE(sum(size_gib), 0) FROM s) AS gib`

func (w *world) sameUsage(projects ...string) {
	w.t.Helper()
	types, err := w.Types(w.ctx, model.ListQuery{}, nil)
	w.must(err)
	for _, p := range projects {
		got, err := w.Usage(w.ctx, p)
		w.must(err)
		for _, t := range append(types, model.VolumeType{}) {
			var want struct{ Volumes, Snapshots, GiB int64 }
			w.must(w.GetRaw(w.ctx, &want, usageByHand, p, t.Name))
			of := func(resource string) int64 {
				if t.Name != "" {
					resource = model.TypeQuota(resource, t.Name)
				}
				return got[resource]
			}
			if of("volumes") != want.Volumes || of("snapshots") != want.Snapshots || of("gigabytes") != want.GiB {
				w.t.Errorf("usage of %s is %v, by hand of type %q %+v", p, got, t.Name, want)
			}
		}
	}
}

// Usage is right whoever writes the rows, and however.
func TestUsageFollowsRows(t *testing.T) {
	w := newWorld(t)
	w.volumeType("gold")
	w.volumeType("iron")
	for i, q := range []string{
		`INSERT INTO volumes (id, project_id, user_id, size_gib, status, consumes_quota, volume_type_id)
			SELECT gen_random_uuid(), 'p' || n % 3, 'u', 1 + n % 5, 'available', n % 7 <> 0,
				(SELECT id FROM volume_types WHERE name = CASE n % 4 WHEN 0 THEN 'gold' WHEN 1 THEN 'iron' END) FROM generate_series(1, 100) n`,
		`INSERT INTO snapshots (id, volume_id, project_id, user_id, size_gib, status, consumes_quota, volume_type_id)
			SELECT gen_random_uuid(), id, project_id, 'u', size_gib, 'available', size_gib <> 2, volume_type_id FROM volumes`,
		"UPDATE volumes SET volume_type_id = (SELECT id FROM volume_types WHERE name = 'gold') WHERE size_gib < 4",
		"UPDATE snapshots SET volume_type_id = NULL, size_gib = 9 WHERE size_gib = 4",
		"UPDATE volumes SET size_gib = size_gib + 3 WHERE size_gib = 2",
		"UPDATE snapshots SET size_gib = size_gib + 1",
		"UPDATE volumes SET consumes_quota = NOT consumes_quota WHERE size_gib = 3",
		"UPDATE volumes SET project_id = 'p0', consumes_quota = true WHERE project_id = 'p1' AND size_gib > 3",
		"UPDATE snapshots SET project_id = 'p2' WHERE project_id = 'p1'",
		"UPDATE volumes SET status = 'error'",
		"DELETE FROM snapshots WHERE size_gib > 3",
		"DELETE FROM volumes WHERE project_id = 'p2' AND NOT EXISTS (SELECT 1 FROM snapshots WHERE volume_id = volumes.id)",
	} {
		w.must(w.ExecRaw(w.ctx, q))
		w.sameUsage("p0", "p1", "p2", "nobody")
		if t.Failed() {
			t.Fatalf("after statement %d: %s", i, q)
		}
	}
}

// Changes are put together while others add to them, and none is lost.
func TestUsageIsAddedUp(t *testing.T) {
	w := newWorld(t, db.Options{QuotaDefaults: map[string]int64{"volumes": -1, "gigabytes": -1}})
	var done sync.WaitGroup
	for range 6 {
		done.Go(func() {
			for range 50 {
				vs, err := w.CreateVolumes(w.ctx, counted(2), nil)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := w.MoveVolume(w.ctx, vs[0].ID, model.VolumeMove{From: []model.VolumeStatus{model.VolumeAvailable}, To: model.VolumeDeleting}); err != nil {
					t.Error(err)
				}
				if err := w.DeleteRow(w.ctx, vs[0].ID); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done.Wait()
	w.sameUsage("p1")
	if n := w.count("SELECT count(*) FROM usage_changes"); n > 2*64 {
		t.Errorf("%d changes are left of 600", n)
	}
	u, err := w.Usage(w.ctx, "p1")
	w.must(err)
	if u["volumes"] != 300 || u["gigabytes"] != 600 {
		t.Errorf("usage %v", u)
	}
}

// A schema that has rows already counts them when it is brought up.
func TestUsageOfOldRows(t *testing.T) {
	w := newWorld(t)
	p, err := goose.NewProvider(goose.DialectPostgres, w.Raw(), migrations.FS)
	w.must(err)
	_, err = p.DownTo(w.ctx, 5) // before 00006_usage.sql
	w.must(err)
	w.must(w.ExecRaw(w.ctx, `INSERT INTO volumes (id, project_id, user_id, size_gib, status)
		SELECT gen_random_uuid(), 'p' || n % 2, 'u', n, 'available' FROM generate_series(1, 9) n`))
	w.must(w.ExecRaw(w.ctx, `INSERT INTO snapshots (id, volume_id, project_id, user_id, size_gib, status, consumes_quota)
		SELECT gen_random_uuid(), id, project_id, 'u', size_gib, 'available', size_gib < 5 FROM volumes`))
	w.must(w.Migrate(w.ctx))
	w.sameUsage("p0", "p1")
}

// An image that is active holds volumes' creators up only while somebody removes it.
func TestCreatorsShareAnImage(t *testing.T) {
	w := newWorld(t)
	id := w.active("h1", 4096)
	first := make(chan struct{})
	var hold sync.WaitGroup
	hold.Go(func() {
		err := w.Tx(w.ctx, func(tx *db.Tx) error {
			if _, err := tx.Hold(*image(id)); err != nil {
				return err
			}
			// Another creator comes through while this one has not ended.
			v := vol(1)
			v.ProjectID = "p2"
			if _, err := w.CreateVolumes(w.ctx, []model.Volume{v}, image(id)); err != nil {
				return err
			}
			close(first)
			var free int
			if err := w.GetRaw(w.ctx, &free, "SELECT count(*) FROM (SELECT 1 FROM images WHERE id = $1 FOR NO KEY UPDATE SKIP LOCKED) AS i", id); err != nil {
				return err
			}
			if free != 0 {
				t.Error("the image can be removed while a volume of it is being made")
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	select {
	case <-first:
	case <-w.ctx.Done():
		t.Fatal("one creator waits for another")
	}
	hold.Wait()
	if n := w.count("SELECT count(*) FROM volumes WHERE image_id = $1 AND status = 'available'", id); n != 2 {
		t.Errorf("%d volumes of the image, want 2", n)
	}
}
