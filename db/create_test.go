package db_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/vmthunder/vmthunder/db"
	"github.com/vmthunder/vmthunder/db/model"
)

func (w *world) count(query string, args ...any) int {
	w.t.Helper()
	var n int
	w.must(w.GetRaw(w.ctx, &n, query, args...))
	return n
}

func TestCreateMany(t *testing.T) {
	w := newWorld(t)
	typ := w.volumeType("fast")
	want := make([]model.Volume, 2300) // more than one statement
	for i := range want {
		want[i] = vol(i%9 + 1)
		want[i].ID = uuid.New()
		want[i].VolumeTypeID = &typ.ID
		want[i].Metadata = model.StringMap{"n": "1"}
	}
	got := w.create(nil, want...)
	if len(got) != len(want) {
		t.Fatalf("%d rows, want %d", len(got), len(want))
	}
	for i, v := range got {
		if v.ID != want[i].ID || v.Status != model.VolumeAvailable || v.LaunchedAt == nil || *v.VolumeType != "fast" || v.Metadata["n"] != "1" {
			t.Fatalf("row %d: %+v", i, v)
		}
		if i > 0 && !v.CreatedAt.After(got[i-1].CreatedAt) {
			t.Fatalf("row %d was made at %v, not after the one before it", i, v.CreatedAt)
		}
	}
	bad := vol(1)
	bad.VolumeTypeID = new(uuid.New())
	if _, err := w.CreateVolumes(w.ctx, []model.Volume{vol(1), bad}, nil); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("unknown type: %v", err)
	}
	if _, err := w.CreateVolumes(w.ctx, []model.Volume{vol(1), want[0]}, nil); !errors.Is(err, model.ErrExists) {
		t.Errorf("same id: %v", err)
	}
	if n := w.count("SELECT count(*) FROM volumes"); n != len(want) {
		t.Errorf("%d rows: a batch that failed left some", n)
	}
}

// However many ask for an image at the same time, it is imported once.
func TestCreatorsOfOneImage(t *testing.T) {
	w := newWorld(t)
	id := uuid.New()
	var g errgroup.Group
	for range 12 {
		g.Go(func() error {
			vs, err := w.CreateVolumes(w.ctx, []model.Volume{vol(1), vol(2)}, image(id))
			for _, v := range vs {
				if v.Status != model.VolumeDownloading || *v.ImageID != id {
					t.Errorf("volume %s of image %v", v.Status, v.ImageID)
				}
			}
			return err
		})
	}
	w.must(g.Wait())
	if i, j, v := w.count("SELECT count(*) FROM images"), w.count("SELECT count(*) FROM jobs"), w.count("SELECT count(*) FROM volumes"); i != 1 || j != 1 || v != 24 {
		t.Errorf("%d images, %d jobs, %d volumes; want 1, 1, 24", i, j, v)
	}
	if got := w.image(id); got.Properties["os"] != "linux" || got.Status != model.ImageQueued {
		t.Errorf("image %+v", got)
	}
}

// A volume that is made while the import ends is either waiting when it ends, and gets
// available with the others, or is made after and is available from the start.
func TestCreateWhileImportEnds(t *testing.T) {
	w := newWorld(t)
	w.node("h1")
	for range 20 {
		id := uuid.New()
		w.create(image(id), vol(10))
		w.tx(func(t *db.Tx) error { return t.SetImage(id, model.ImageImporting, nil) })
		var start, done sync.WaitGroup
		start.Add(1)
		for range 3 {
			done.Go(func() { start.Wait(); w.create(image(id), vol(10)) })
		}
		done.Go(func() { start.Wait(); w.must(w.FinishImport(w.ctx, id, 5*gib, 5*gib)) })
		start.Done()
		done.Wait()
		if n := w.count("SELECT count(*) FROM volumes WHERE image_id = $1 AND status <> 'available'", id); n != 0 {
			t.Fatalf("%d volumes wait for an import that is over", n)
		}
	}
}

func TestTooSmall(t *testing.T) {
	w := newWorld(t)
	id := w.active("h1", 5*gib+1)
	_, err := w.CreateVolumes(w.ctx, []model.Volume{vol(6), vol(5)}, image(id))
	if !errors.Is(err, model.ErrInvalid) || err.Error() != "Size of specified image 6GB is larger than volume size 5GB." {
		t.Errorf("got %v", err)
	}
	if got := w.create(image(id), vol(6)); got[0].Status != model.VolumeAvailable {
		t.Errorf("volume of an active image is %s", got[0].Status)
	}
}

func TestImportEnds(t *testing.T) {
	w := newWorld(t)
	w.node("h1")
	id := uuid.New()
	vs := w.create(image(id), vol(5), vol(4), vol(9))
	if err := w.FinishImport(w.ctx, id, 5*gib, 5*gib); !errors.Is(err, model.ErrConflict) {
		t.Errorf("end of an import that did not begin: %v", err)
	}
	w.tx(func(t *db.Tx) error {
		if err := t.SetImage(id, model.ImageImporting, nil); err != nil {
			return err
		}
		return t.PutMember(model.Member{ImageID: id, Host: "h1", Role: model.RoleRoot, State: model.MemberJoining})
	})
	before := w.generation("h1")
	w.must(w.FinishImport(w.ctx, id, 5*gib, 5*gib))
	w.must(w.FinishImport(w.ctx, id, 5*gib, 5*gib)) // again: no change
	if g := w.generation("h1"); g != before+1 {
		t.Errorf("generation %d after %d", g, before)
	}
	for i, want := range []model.VolumeStatus{"available", "error", "available"} {
		if got := w.volume(vs[i].ID); got.Status != want || (got.LaunchedAt != nil) != (want == "available") || *got.PreviousStatus != "downloading" {
			t.Errorf("volume %d: %s, launched %v", i, got.Status, got.LaunchedAt)
		}
	}
	ms, err := w.Messages(w.ctx, model.ListQuery{ProjectID: "p1"})
	w.must(err)
	if len(ms) != 1 || *ms[0].ResourceUUID != vs[1].ID || ms[0].UserMessage !=
		"copy image to volume:Image used for creating volume exceeds available space. (Size of specified image 5GB is larger than volume size 4GB.)" {
		t.Errorf("messages %+v", ms)
	}
	if got := w.image(id); got.Status != model.ImageActive || got.VirtualBytes != 5*gib || got.Attempts != 1 {
		t.Errorf("image %+v", got)
	}
}

// An import that failed is tried again from its start when somebody asks again, even
// while the job of the first attempt is still being put away.
func TestImportFails(t *testing.T) {
	w := newWorld(t)
	id := uuid.New()
	vs := w.create(image(id), vol(5), vol(4))
	job, err := w.TakeJob(w.ctx, "me", 1e9)
	w.must(err)
	w.node("h1")
	w.tx(func(t *db.Tx) error {
		if err := t.SetImage(id, model.ImageImporting, nil); err != nil {
			return err
		}
		return t.PutMember(model.Member{ImageID: id, Host: "h1", Role: model.RoleRoot, State: model.MemberJoining})
	})
	before := w.generation("h1")
	w.must(w.FailImport(w.ctx, id, "VOLUME_VOLUME_005_001", "checksum differs"))
	ms, err := w.Members(w.ctx, id)
	w.must(err)
	if len(ms) != 1 || ms[0].State != model.MemberLeaving || w.generation("h1") == before {
		t.Errorf("its root is not told to drop it: %+v", ms)
	}
	for _, v := range vs {
		if got := w.volume(v.ID); got.Status != model.VolumeError || *got.Error != "checksum differs" {
			t.Errorf("%+v", got)
		}
	}
	if n := w.count("SELECT count(*) FROM messages"); n != 2 {
		t.Errorf("%d messages", n)
	}
	more := w.create(image(id), vol(7))
	w.must(w.FinishJob(w.ctx, job.ID)) // the first one's
	got := w.image(id)
	if got.Status != model.ImageQueued || got.Error != nil || got.Attempts != 0 || more[0].Status != model.VolumeDownloading {
		t.Errorf("image %+v, volume %s", got, more[0].Status)
	}
	next, err := w.TakeJob(w.ctx, "me", 1e9)
	w.must(err)
	if next.Subject != id.String() || next.ID == job.ID || next.Kind != model.JobImportImage {
		t.Errorf("job %+v", next)
	}
	if err := w.FailImport(w.ctx, uuid.New(), "VOLUME_VOLUME_005_001", "x"); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("unknown image: %v", err)
	}
}

// An image that is being removed is kept while its root stands.
func TestCreateFromImageBeingRemoved(t *testing.T) {
	w := newWorld(t)
	id := w.active("h1", gib)
	remove := func(root model.MemberState) {
		w.tx(func(t *db.Tx) error {
			if err := t.SetImage(id, model.ImageDeleting, nil); err != nil {
				return err
			}
			m, err := t.Member(id, "h1")
			if err != nil {
				return err
			}
			m.State = root
			if err := t.PutMember(m); err != nil {
				return err
			}
			return t.AddJob(model.JobReleaseImage, id.String(), m.CreatedAt)
		})
	}
	remove(model.MemberDraining)
	before := w.generation("h1")
	if v := w.create(image(id), vol(1)); v[0].Status != model.VolumeAvailable {
		t.Errorf("volume is %s", v[0].Status)
	}
	ms, err := w.Members(w.ctx, id)
	w.must(err)
	if w.image(id).Status != model.ImageActive || ms[0].State != model.MemberActive || w.generation("h1") == before {
		t.Errorf("image %s, root %s", w.image(id).Status, ms[0].State)
	}
	if n := w.count("SELECT count(*) FROM jobs WHERE kind = 'release-image'"); n != 0 {
		t.Error("it would still be removed")
	}
	remove(model.MemberLeaving)
	if v := w.create(image(id), vol(1)); v[0].Status != model.VolumeDownloading || w.image(id).Status != model.ImageQueued {
		t.Errorf("volume is %s, image %s", v[0].Status, w.image(id).Status)
	}
	if n := w.count("SELECT count(*) FROM jobs WHERE kind = 'import-image' AND NOT again"); n != 1 {
		t.Errorf("%d import jobs", n)
	}
}

// An image's row goes only when nobody needs it, and creators that met it survive that.
func TestDeleteImage(t *testing.T) {
	w := newWorld(t)
	id := w.active("h1", gib)
	drop := func() error {
		return w.Tx(w.ctx, func(t *db.Tx) error { return t.DeleteImage(id) })
	}
	if err := drop(); !errors.Is(err, model.ErrInUse) {
		t.Errorf("with a volume and a member: %v", err)
	}
	w.tx(func(t *db.Tx) error { return t.DeleteMember(id, "h1") })
	var g errgroup.Group
	w.must(w.ExecRaw(w.ctx, "DELETE FROM volumes"))
	w.tx(func(tx *db.Tx) error {
		used, err := tx.ImageUsed(id)
		if used {
			t.Error("used by nobody")
		}
		if err := tx.DeleteImage(id); err != nil {
			return err
		}
		// This one finds the row, and waits for us.
		g.Go(func() error { _, err := w.CreateVolumes(w.ctx, []model.Volume{vol(1)}, image(id)); return err })
		return errors.Join(err, waitBlocked(w))
	})
	w.must(g.Wait())
	if w.image(id).Status != model.ImageQueued {
		t.Errorf("image %s", w.image(id).Status)
	}
}

// waitBlocked returns when a statement of the database waits for a lock.
func waitBlocked(w *world) error {
	for {
		var n int
		err := w.GetRaw(w.ctx, &n, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
		if err != nil || n > 0 {
			return err
		}
		time.Sleep(2 * time.Millisecond) // the server has no event for it
	}
}

// Every field that a new volume may have is written and returned.
func TestCreateWritesAll(t *testing.T) {
	w := newWorld(t)
	kind, err := w.CreateType(w.ctx, model.VolumeType{Name: "gold", IsPublic: true})
	w.must(err)
	id, group := uuid.New(), w.group(false, kind.ID)
	in := model.Volume{
		ID: id, ProjectID: "p1", UserID: "u1", Name: ptr("na\"me\\ ü\n"), Description: ptr("d"), SizeGiB: 3, MigrationStatus: ptr("m"),
		AvailabilityZone: "west", VolumeTypeID: &kind.ID, Bootable: true, Multiattach: true, ReadOnly: true, ConsumesQuota: true,
		SnapshotID: ptr(uuid.New()), SourceVolID: ptr(uuid.New()), GroupID: &group.ID, EncryptionKeyID: ptr(uuid.New()),
		Metadata: model.StringMap{"k": "v \" \\ 日"}, AdminMetadata: model.StringMap{"readonly": "True"},
		ImageMetadata: model.StringMap{"image_id": "x"}, RequestID: "req-1",
	}
	want := in
	want.Status, want.AttachStatus, want.VolumeType = model.VolumeAvailable, model.AttachDetached, &kind.Name
	made := w.create(nil, in)[0]
	listed, err := w.ListVolumes(w.ctx, model.ListQuery{})
	w.must(err)
	for _, got := range []model.Volume{made, w.volume(id)} {
		if got.CreatedAt.IsZero() || got.LaunchedAt == nil || got.UpdatedAt != nil {
			t.Errorf("times %s, %v, %v", got.CreatedAt, got.LaunchedAt, got.UpdatedAt)
		}
		want.CreatedAt, want.LaunchedAt = got.CreatedAt, got.LaunchedAt
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	want.LaunchedAt, want.RequestID = nil, "" // not shown
	if d := cmp.Diff(want, listed[0]); d != "" {
		t.Error(d)
	}
	if got := w.create(nil, vol(1))[0]; got.ID == uuid.Nil || got.Name != nil || got.AvailabilityZone != "nova" || len(got.Metadata)+len(got.AdminMetadata)+len(got.ImageMetadata) != 0 {
		t.Errorf("a volume of which little is said: %+v", got)
	}
}
