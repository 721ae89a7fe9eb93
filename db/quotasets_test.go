package db_test

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db"
	"github.com/vmthunder/vmthunder/db/model"
)

type limits = map[string]int64

func (w *world) quotas(project string, l limits) {
	w.t.Helper()
	w.must(w.SetQuotas(w.ctx, project, l))
}

// over is what a refusal says of the resource: its name, or the error.
func over(err error) string {
	if q, ok := errors.AsType[*model.QuotaError](err); ok {
		return q.Resource
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func TestQuotaSets(t *testing.T) {
	w := newWorld(t, db.Options{QuotaDefaults: limits{"volumes": 20, "backups": 3}})
	has := func(what string, got limits, err error, want limits) {
		t.Helper()
		w.must(err)
		all := model.CinderQuotas()
		maps.Copy(all, limits{"volumes": 20, "backups": 3})
		maps.Copy(all, want)
		if !maps.Equal(got, all) {
			t.Errorf("%s: %v, want %v", what, got, all)
		}
	}
	w.quotas("p1", limits{"volumes": 7, "gigabytes": -1})
	w.quotas("p1", limits{"volumes": 8, "volumes_gold": 2, "groups": 1<<31 - 1})
	w.must(w.SetClassLimits(w.ctx, "default", limits{"volumes": 15, "snapshots": 0}))
	w.must(w.SetClassLimits(w.ctx, "silver", limits{"volumes": 1}))
	w.must(w.SetClassLimits(w.ctx, "silver", limits{"backups": 2}))
	w.must(w.SetClassLimits(w.ctx, "silver", nil))
	own := limits{"volumes": 8, "gigabytes": -1, "volumes_gold": 2, "groups": 1<<31 - 1, "snapshots": 0}
	l, err := w.Limits(w.ctx, "p1")
	has("a project's", l, err, own)
	l, err = w.Limits(w.ctx, "")
	has("the defaults", l, err, limits{"volumes": 15, "snapshots": 0})
	l, err = w.ClassLimits(w.ctx, "silver")
	has("a class's", l, err, limits{"volumes": 1, "backups": 2, "snapshots": 0})
	l, err = w.ClassLimits(w.ctx, "default")
	has("class default's", l, err, limits{"volumes": 15, "snapshots": 0})
	l, err = w.ClassLimits(w.ctx, "unknown")
	has("no class's", l, err, limits{"volumes": 15, "snapshots": 0})
	for range 2 {
		w.must(w.DeleteQuotas(w.ctx, "p1"))
		l, err = w.Limits(w.ctx, "p1")
		has("after the deletion", l, err, limits{"volumes": 15, "snapshots": 0})
	}
}

// As in Cinder, a limit below the usage is refused only where the project had one before.
func TestQuotaBelowUsage(t *testing.T) {
	w := newWorld(t)
	w.create(nil, counted(3)...)
	w.quotas("p1", limits{"volumes": 1, "gigabytes": 100})
	below := func(l limits, resource string, limit, used int64) {
		t.Helper()
		err := w.SetQuotas(w.ctx, "p1", l)
		if b, ok := errors.AsType[*model.BelowUsage](err); !ok || *b != (model.BelowUsage{Resource: resource, Limit: limit, Used: used}) {
			t.Errorf("%v: got %v", l, err)
		}
	}
	below(limits{"volumes": 2}, "volumes", 2, 3)
	below(limits{"gigabytes": 5, "snapshots": 1, "volumes": 9}, "gigabytes", 5, 6)
	if l, err := w.Limits(w.ctx, "p1"); err != nil || l["gigabytes"] != 100 || l["snapshots"] != 10 || l["volumes"] != 1 {
		t.Errorf("a refusal has written: %v, %v", l, err)
	}
	w.quotas("p1", limits{"volumes": 3, "gigabytes": 6, "per_volume_gigabytes": 5})
	w.quotas("p1", limits{"volumes": -1, "per_volume_gigabytes": 1})
	below(limits{"volumes": 0}, "volumes", 0, 3)
}

func TestQuotasOfTypes(t *testing.T) {
	w := newWorld(t)
	gold, iron := w.volumeType("gold"), w.volumeType("iron")
	of := func(typ *uuid.UUID, gib int) model.Volume {
		v := vol(gib)
		v.VolumeTypeID, v.ConsumesQuota = typ, true
		return v
	}
	try := func(want string, vols ...model.Volume) []model.Volume {
		t.Helper()
		out, err := w.CreateVolumes(w.ctx, vols, nil)
		if got := over(err); got != want {
			t.Errorf("create: over %q, want %q", got, want)
		}
		return out
	}
	w.quotas("p1", limits{"volumes_gold": 2, "gigabytes_iron": 5, "snapshots_gold": 1, "per_volume_gigabytes": 6})
	golden := try("", of(&gold.ID, 3), of(&gold.ID, 3))
	try("volumes_gold", of(&iron.ID, 1), of(&gold.ID, 1))
	irons := try("", of(&iron.ID, 4), of(nil, 6))
	try("gigabytes_iron", of(&iron.ID, 2))
	try("per_volume_gigabytes", of(&gold.ID, 7))
	w.sameUsage("p1")

	from := []model.VolumeStatus{model.VolumeAvailable}
	snap := func(want string, volume uuid.UUID) {
		t.Helper()
		_, err := w.CreateSnapshots(w.ctx, []model.Snapshot{{VolumeID: volume, ProjectID: "p1", UserID: "u", ConsumesQuota: true}}, from)
		if got := over(err); got != want {
			t.Errorf("snapshot: over %q, want %q", got, want)
		}
	}
	snap("", golden[0].ID)
	snap("snapshots_gold", golden[1].ID)
	snap("gigabytes_iron", irons[0].ID)
	extend := func(want string, volume uuid.UUID, gib int) {
		t.Helper()
		_, err := w.ExtendVolume(w.ctx, volume, gib, from)
		if got := over(err); got != want {
			t.Errorf("extend: over %q, want %q", got, want)
		}
	}
	extend("", irons[0].ID, 5)
	extend("gigabytes_iron", irons[0].ID, 6)
	extend("per_volume_gigabytes", irons[1].ID, 7)
	w.quotas("p1", limits{"gigabytes": 21})
	extend("", golden[1].ID, 4)
	extend("gigabytes", golden[1].ID, 5)

	retype := func(want string, volume, typ uuid.UUID) {
		t.Helper()
		if got := over(w.retype(volume, typ, false, from)); got != want {
			t.Errorf("retype: over %q, want %q", got, want)
		}
	}
	retype("volumes_gold", irons[1].ID, gold.ID)
	retype("gigabytes_iron", golden[0].ID, iron.ID) // its 3 GiB and its snapshot's
	w.quotas("p1", limits{"gigabytes_iron": 11, "volumes": 3})
	retype("", golden[0].ID, iron.ID) // that it is one volume too many already is not its fault
	retype("", irons[1].ID, gold.ID)
	w.sameUsage("p1")
	u, err := w.Usage(w.ctx, "p1")
	w.must(err)
	if u["snapshots_iron"] != 1 || u["gigabytes_iron"] != 11 || u["volumes_gold"] != 2 || u["gigabytes_gold"] != 10 {
		t.Errorf("usage %v", u)
	}
}

// Whatever is made, changed, refused, given back or broken off at the same time: what is
// used is what there is, and never more than the quota.
func TestQuotasNeverLeak(t *testing.T) {
	w := newWorld(t)
	types := []uuid.UUID{w.volumeType("gold").ID, w.volumeType("iron").ID}
	quota := limits{"volumes": 40, "gigabytes": 90, "snapshots": 15, "volumes_gold": 18, "gigabytes_iron": 40}
	w.quotas("p1", quota)
	from := []model.VolumeStatus{model.VolumeAvailable}
	id := w.active("h0", 4*gib) // an image that small volumes can't be made from
	w.must(w.ExecRaw(w.ctx, "UPDATE volumes SET project_id = 'other'"))
	unknown := uuid.New()
	var refused, failed atomic.Int32
	note := func(err error) {
		switch {
		case err == nil:
		case over(err) != err.Error():
			refused.Add(1)
		case errors.Is(err, model.ErrConflict), errors.Is(err, model.ErrNotFound), errors.Is(err, model.ErrInvalid), errors.Is(err, model.ErrInUse),
			errors.Is(err, context.DeadlineExceeded):
			failed.Add(1)
		default:
			t.Error(err)
		}
	}
	var done sync.WaitGroup
	for n := range 8 {
		done.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(n)))
			for range 80 {
				vs, err := w.ListVolumes(w.ctx, model.ListQuery{ProjectID: "p1"})
				if err != nil {
					t.Error(err)
					return
				}
				var v model.Volume
				if len(vs) > 0 {
					v = vs[r.IntN(len(vs))]
				}
				switch what := r.IntN(10); {
				case len(vs) == 0 || what < 4:
					batch := counted(1 + r.IntN(4))
					var img *model.Image
					switch r.IntN(6) {
					case 0:
						img = image(id) // too large
					case 1:
						batch[len(batch)-1].VolumeTypeID = &unknown
					default:
						for i := range batch {
							batch[i].VolumeTypeID = &types[r.IntN(2)]
						}
					}
					_, err = w.CreateVolumes(w.ctx, batch, img)
				case what == 4:
					if _, err = w.MoveVolume(w.ctx, v.ID, model.VolumeMove{From: from, To: model.VolumeDeleting}); err == nil {
						err = w.DeleteRow(w.ctx, v.ID)
					}
				case what == 5:
					_, err = w.ExtendVolume(w.ctx, v.ID, v.SizeGiB+1+r.IntN(3), from)
				case what == 6:
					err = w.retype(v.ID, types[r.IntN(2)], false, from)
				case what == 7:
					_, err = w.CreateSnapshots(w.ctx, []model.Snapshot{{VolumeID: v.ID, ProjectID: "p1", UserID: "u", ConsumesQuota: true}}, from)
				case what == 8:
					err = w.SetQuotas(w.ctx, "p1", limits{"backups": int64(r.IntN(9))})
				default: // a request whose client goes away
					ctx, cancel := context.WithTimeout(w.ctx, time.Duration(r.IntN(4000))*time.Microsecond)
					_, err = w.CreateVolumes(ctx, counted(3), nil)
					cancel()
				}
				note(err)
			}
		})
	}
	done.Wait()
	w.sameUsage("p1", "other")
	u, err := w.Usage(w.ctx, "p1")
	w.must(err)
	for r, l := range quota {
		if u[r] > l {
			t.Errorf("%s: %d used of %d", r, u[r], l)
		}
	}
	if refused.Load() == 0 || failed.Load() == 0 {
		t.Errorf("%d refused, %d failed: nothing was tried", refused.Load(), failed.Load())
	}
	// What is left can be used to the last.
	for range 100 {
		if _, err := w.CreateVolumes(w.ctx, []model.Volume{{ProjectID: "p1", UserID: "u", SizeGiB: 1, ConsumesQuota: true}}, nil); err != nil {
			break
		}
	}
	u, err = w.Usage(w.ctx, "p1")
	w.must(err)
	if u["volumes"] != 40 && u["gigabytes"] != 90 {
		t.Errorf("refused with room left: %v", u)
	}
	w.sameUsage("p1")
}
