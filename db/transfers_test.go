package db_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// offer makes a transfer of a volume and returns its row.
func (w *world) offer(volume uuid.UUID, noSnapshots bool) model.Transfer {
	w.t.Helper()
	key, salt := model.NewTransferKey()
	x, err := w.CreateTransfer(w.ctx, model.Transfer{VolumeID: volume, Name: new("t"), Salt: salt, KeyHash: model.HashTransferKey(salt, key), NoSnapshots: noSnapshots})
	w.must(err)
	if !x.Opens(key) || x.Opens("0"+key[1:]+"x") {
		w.t.Fatal("the stored hash is not that of the key alone")
	}
	return x
}

// counted is a volume of p1 that counts against quotas.
func (w *world) counted(gib int) model.Volume {
	w.t.Helper()
	v := vol(gib)
	v.ConsumesQuota = true
	return w.create(nil, v)[0]
}

func (w *world) project(volume uuid.UUID) string {
	w.t.Helper()
	v := w.volume(volume)
	return v.ProjectID + " " + v.UserID + " " + string(v.Status)
}

func TestTransfer(t *testing.T) {
	w := newWorld(t)
	v := w.counted(3)
	x := w.offer(v.ID, false)
	if got := w.project(v.ID); got != "p1 u1 awaiting-transfer" {
		t.Errorf("volume of %s", got)
	}
	if _, err := w.CreateTransfer(w.ctx, model.Transfer{VolumeID: v.ID}); kinds(err) != "conflict" || err.Error() != "Invalid volume: status must be available" {
		t.Errorf("offered twice: %v", err)
	}
	for project, want := range map[string]string{"p1": "", "p2": "not found", "": ""} {
		if _, err := w.Transfer(w.ctx, x.ID, project); kinds(err) != want {
			t.Errorf("transfer for %q: %v", project, err)
		}
		xs, err := w.ListTransfers(w.ctx, model.ListQuery{ProjectID: project})
		if err != nil || (len(xs) == 1) != (want == "") {
			t.Errorf("list for %q: %v, %v", project, xs, err)
		}
	}
	got, err := w.AcceptTransfer(w.ctx, x.ID, "p2", "u2")
	w.must(err)
	if got.ID != x.ID || *got.Name != "t" {
		t.Errorf("%+v", got)
	}
	if got := w.project(v.ID); got != "p2 u2 available" {
		t.Errorf("volume of %s", got)
	}
	for project, want := range map[string]int64{"p1": 0, "p2": 3} {
		if u, err := w.Usage(w.ctx, project); err != nil || u["gigabytes"] != want {
			t.Errorf("usage of %s: %v, %v", project, u, err)
		}
	}
	if _, err := w.Transfer(w.ctx, x.ID, ""); kinds(err) != "not found" {
		t.Errorf("after the end: %v", err)
	}
	if _, err := w.AcceptTransfer(w.ctx, x.ID, "p3", "u3"); kinds(err) != "not found" {
		t.Errorf("accepted twice: %v", err)
	}
	// It stays as history.
	var n int
	w.must(w.GetRaw(w.ctx, &n, `SELECT count(*) FROM transfers WHERE id = $1 AND accepted AND ended_at IS NOT NULL
		AND source_project_id = 'p1' AND destination_project_id = 'p2'`, x.ID))
	if n != 1 {
		t.Error("no history")
	}
}

func TestTransferTakenBack(t *testing.T) {
	w := newWorld(t)
	v := w.create(nil, vol(1))[0]
	x := w.offer(v.ID, false)
	w.must(w.DeleteTransfer(w.ctx, x.ID))
	if got := w.project(v.ID); got != "p1 u1 available" {
		t.Errorf("volume of %s", got)
	}
	if err := w.DeleteTransfer(w.ctx, x.ID); kinds(err) != "not found" {
		t.Errorf("twice: %v", err)
	}
	// An operator resets the status: what was offered stays as it is, and can't be accepted.
	x = w.offer(v.ID, false)
	w.must(w.ResetVolume(w.ctx, v.ID, new(model.VolumeError), nil, nil))
	if _, err := w.AcceptTransfer(w.ctx, x.ID, "p2", "u2"); kinds(err) != "conflict" || !strings.Contains(err.Error(), "expected in awaiting-transfer state") {
		t.Errorf("in error: %v", err)
	}
	w.must(w.ResetVolume(w.ctx, v.ID, new(model.VolumeMaintenance), nil, nil))
	if _, err := w.AcceptTransfer(w.ctx, x.ID, "p2", "u2"); kinds(err) != "conflict" || !strings.Contains(err.Error(), "maintenance mode") {
		t.Errorf("in maintenance: %v", err)
	}
	if got := w.project(v.ID); got != "p1 u1 maintenance" {
		t.Errorf("volume of %s", got)
	}
	// Offered anew, the key of the older offer is worth nothing.
	w.must(w.ResetVolume(w.ctx, v.ID, new(model.VolumeAvailable), nil, nil))
	w.offer(v.ID, false)
	if _, err := w.AcceptTransfer(w.ctx, x.ID, "p2", "u2"); kinds(err) != "not found" {
		t.Errorf("an older offer: %v", err)
	}
	w.must(w.ResetVolume(w.ctx, v.ID, new(model.VolumeError), nil, nil))
	xs, err := w.ListTransfers(w.ctx, model.ListQuery{})
	w.must(err)
	w.must(w.DeleteTransfer(w.ctx, xs[0].ID))
	if got := w.project(v.ID); got != "p1 u1 error" {
		t.Errorf("volume of %s", got)
	}
	// With the volume its offer goes.
	w.must(w.ResetVolume(w.ctx, v.ID, new(model.VolumeAvailable), nil, nil))
	x = w.offer(v.ID, false)
	_, err = w.MoveVolume(w.ctx, v.ID, model.VolumeMove{From: []model.VolumeStatus{model.VolumeAwaitingTransfer}, To: model.VolumeDeleting})
	w.must(err)
	w.must(w.DeleteRow(w.ctx, v.ID))
	if _, err := w.AcceptTransfer(w.ctx, x.ID, "p2", "u2"); kinds(err) != "not found" {
		t.Errorf("of a volume that is gone: %v", err)
	}
	if n := w.count("SELECT count(*) FROM transfers WHERE ended_at IS NULL"); n != 0 {
		t.Errorf("%d transfers of no volume are open", n)
	}
}

func TestTransferQuota(t *testing.T) {
	w := newWorld(t)
	limit := func(resource string, n int) {
		w.must(w.ExecRaw(w.ctx, "INSERT INTO quotas VALUES ('p2', $1, $2) ON CONFLICT (project_id, resource) DO UPDATE SET hard_limit = $2", resource, n))
	}
	v := w.counted(5)
	x := w.offer(v.ID, false)
	for _, c := range []struct {
		resource string
		limit    int
		loose    int
	}{{"volumes", 0, 10}, {"gigabytes", 4, 100}, {"per_volume_gigabytes", 4, -1}} {
		limit(c.resource, c.limit)
		_, err := w.AcceptTransfer(w.ctx, x.ID, "p2", "u2")
		if q, ok := errors.AsType[*model.QuotaError](err); !ok || q.Resource != c.resource {
			t.Errorf("%s: %v", c.resource, err)
		}
		limit(c.resource, c.loose)
	}
	if got := w.project(v.ID); got != "p1 u1 awaiting-transfer" {
		t.Errorf("volume of %s", got)
	}
	w.snapshot(v.ID, "available", 5)
	limit("gigabytes", 9) // the volume alone would fit, and so would the snapshot
	if _, err := w.AcceptTransfer(w.ctx, x.ID, "p2", "u2"); !errors.As(err, new(*model.QuotaError)) {
		t.Errorf("volume and snapshot: %v", err)
	}
	limit("gigabytes", 10)
	_, err := w.AcceptTransfer(w.ctx, x.ID, "p2", "u2")
	w.must(err)
	if u, err := w.Usage(w.ctx, "p2"); err != nil || u["gigabytes"] != 10 || u["snapshots"] != 1 || u["volumes"] != 1 {
		t.Errorf("usage %v, %v", u, err)
	}
}

// snapshot inserts a row.
func (w *world) snapshot(volume uuid.UUID, status string, gib int) uuid.UUID {
	w.t.Helper()
	id := uuid.New()
	w.must(w.ExecRaw(w.ctx, "INSERT INTO snapshots (id, volume_id, project_id, user_id, size_gib, status) VALUES ($1, $2, 'p1', 'u1', $3, $4)", id, volume, gib, status))
	return id
}

func TestTransferSnapshots(t *testing.T) {
	w := newWorld(t)
	owner := func(id uuid.UUID) (s string) {
		w.must(w.GetRaw(w.ctx, &s, "SELECT project_id || ' ' || user_id FROM snapshots WHERE id = $1", id))
		return s
	}
	v := w.create(nil, vol(1))[0]
	sn := w.snapshot(v.ID, "creating", 1)
	if _, err := w.CreateTransfer(w.ctx, model.Transfer{VolumeID: v.ID}); kinds(err) != "conflict" || err.Error() != "Invalid snapshot: snapshot: "+sn.String()+" status must be available" {
		t.Errorf("a snapshot that is being made: %v", err)
	}
	if got := w.project(v.ID); got != "p1 u1 available" {
		t.Errorf("volume of %s", got)
	}
	x := w.offer(v.ID, true) // without it
	_, err := w.AcceptTransfer(w.ctx, x.ID, "p2", "u2")
	w.must(err)
	if owner(sn) != "p1 u1" || w.project(v.ID) != "p2 u2 available" {
		t.Errorf("snapshot of %s, volume of %s", owner(sn), w.project(v.ID))
	}
	w.must(w.ExecRaw(w.ctx, "UPDATE snapshots SET status = 'available'"))
	x = w.offer(v.ID, false)
	w.must(w.ExecRaw(w.ctx, "UPDATE snapshots SET status = 'deleting'"))
	if _, err := w.AcceptTransfer(w.ctx, x.ID, "p3", "u3"); kinds(err) != "conflict" || !strings.Contains(err.Error(), "is not in the expected available state") {
		t.Errorf("a snapshot that is being deleted: %v", err)
	}
	w.must(w.ExecRaw(w.ctx, "UPDATE snapshots SET status = 'available'"))
	_, err = w.AcceptTransfer(w.ctx, x.ID, "p3", "u3")
	w.must(err)
	if owner(sn) != "p3 u3" || w.project(v.ID) != "p3 u3 available" {
		t.Errorf("snapshot of %s, volume of %s", owner(sn), w.project(v.ID))
	}
}

// Many accept one transfer: one of them gets the volume.
func TestAcceptRace(t *testing.T) {
	w := newWorld(t)
	for range 10 {
		v := w.create(nil, vol(1))[0]
		x := w.offer(v.ID, false)
		var wg sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			project := uuid.NewString()
			wg.Go(func() { _, errs[i] = w.AcceptTransfer(w.ctx, x.ID, project, "u") })
		}
		wg.Go(func() { _, _ = w.ListTransfers(w.ctx, model.ListQuery{}) })
		wg.Wait()
		won := 0
		for _, err := range errs {
			switch kinds(err) {
			case "":
				won++
			case "not found":
			default:
				t.Errorf("a loser got %v", err)
			}
		}
		if won != 1 {
			t.Fatalf("%d of %d accepted it", won, len(errs))
		}
	}
}

// Volumes are accepted at the same time into a project that has room for two more.
func TestAcceptQuotaRace(t *testing.T) {
	w := newWorld(t)
	w.must(w.ExecRaw(w.ctx, "INSERT INTO quotas VALUES ('p2', 'volumes', 2)"))
	var wg sync.WaitGroup
	errs := make([]error, 6)
	for i := range errs {
		v := w.counted(1)
		x := w.offer(v.ID, false)
		wg.Go(func() { _, errs[i] = w.AcceptTransfer(w.ctx, x.ID, "p2", "u2") })
	}
	wg.Wait()
	ok := 0
	for _, err := range errs {
		if err == nil {
			ok++
		} else if !errors.As(err, new(*model.QuotaError)) {
			t.Errorf("got %v", err)
		}
	}
	if u, err := w.Usage(w.ctx, "p2"); err != nil || u["volumes"] != 2 || ok != 2 {
		t.Errorf("%d accepted, usage %v, %v", ok, u, err)
	}
}

// An offer is taken back while it is accepted: it is one or the other.
func TestAcceptWhileTakenBack(t *testing.T) {
	w := newWorld(t)
	for range 20 {
		v := w.create(nil, vol(1))[0]
		x := w.offer(v.ID, false)
		var wg sync.WaitGroup
		var accepted, deleted error
		wg.Go(func() { _, accepted = w.AcceptTransfer(w.ctx, x.ID, "p2", "u2") })
		wg.Go(func() { deleted = w.DeleteTransfer(w.ctx, x.ID) })
		wg.Wait()
		want := map[bool]string{true: "p2 u2 available", false: "p1 u1 available"}[accepted == nil]
		if (accepted == nil) == (deleted == nil) || w.project(v.ID) != want {
			t.Fatalf("accept: %v, delete: %v, volume of %s", accepted, deleted, w.project(v.ID))
		}
		w.must(w.ExecRaw(w.ctx, "DELETE FROM volumes"))
	}
}
