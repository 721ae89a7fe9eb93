package wire

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler"
)

var asker = model.Task{ProjectID: "p", UserID: "u", RequestID: "req-1"}

// backup begins one.
func (s *site) backup(b model.Backup, o model.BackupOptions) model.Backup {
	s.t.Helper()
	b.ProjectID, b.UserID = "p", "u"
	out, err := s.svc.CreateBackup(context.Background(), b, o, asker)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

func (s *site) backupStatus(id uuid.UUID) model.BackupStatus {
	b, err := s.store.Backup(context.Background(), id, "")
	if errors.Is(err, model.ErrNotFound) {
		return "gone"
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return b.Status
}

func (s *site) backupIs(id uuid.UUID, want model.BackupStatus) {
	s.t.Helper()
	s.until("backup to be "+string(want), func() bool { return s.backupStatus(id) == want })
}

func (s *site) deleteBackup(id uuid.UUID, force bool) {
	s.t.Helper()
	if err := s.svc.DeleteBackup(context.Background(), id, force, asker); err != nil {
		s.t.Fatal(err)
	}
}

// Whatever a volume is, it is backed up where its data is, restored in place and to a new
// volume, and nothing is left of the work.
func TestBackup(t *testing.T) {
	for name, image := range map[string]*model.Image{"image": anImage(), "blank": nil} {
		for _, written := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				s := newSite(t, scheduler.Options{}, "o1", "n1")
				ctx := context.Background()
				v := s.create(1, image)[0]
				if written {
					v = s.written(image)
				}
				s.available([]model.Volume{v})
				before := s.thinsOf("n1")
				s.ends(model.TaskStateWorking, "")
				b := s.backup(model.Backup{VolumeID: v.ID}, model.BackupOptions{})
				if b.Status != model.BackupCreating || b.SizeGiB != 1 || !b.DataTimestamp.Equal(b.CreatedAt) {
					t.Errorf("%+v", b)
				}
				s.volumeIs(v.ID, model.VolumeBackingUp)
				if _, err := s.svc.CreateBackup(ctx, model.Backup{VolumeID: v.ID, ProjectID: "p"}, model.BackupOptions{}, asker); !errors.As(err, new(*model.Refused)) {
					t.Errorf("a second one: %v", err)
				}
				s.ends(model.TaskStateDone, "")
				s.backupIs(b.ID, model.BackupAvailable)
				s.volumeIs(v.ID, model.VolumeAvailable)
				s.noTasks()
				if after := s.thinsOf("n1"); after != before {
					t.Errorf("%d thin devices, %d before", after, before)
				}
				if b, _ := s.store.Backup(ctx, b.ID, ""); b.ObjectCount != 3 {
					t.Errorf("%+v", b)
				}

				s.ends(model.TaskStateWorking, "")
				if err := s.svc.Restore(ctx, b.ID, v.ID, asker); err != nil {
					t.Fatal(err)
				}
				if st := s.status(v.ID); st != model.VolumeRestoringBackup || s.backupStatus(b.ID) != model.BackupRestoring {
					t.Errorf("volume is %s", st)
				}
				if err := s.svc.DeleteBackup(ctx, b.ID, false, asker); !errors.As(err, new(*model.Refused)) {
					t.Errorf("deletion meanwhile: %v", err)
				}
				s.ends(model.TaskStateDone, "")
				s.volumeIs(v.ID, model.VolumeAvailable)
				s.backupIs(b.ID, model.BackupAvailable)
				if now, _ := s.store.Volume(ctx, v.ID, ""); now.Home == nil || now.Metadata["src_backup_id"] != "" {
					t.Errorf("%+v", now)
				}
				for _, status := range []model.VolumeStatus{model.VolumeRestoringBackup, model.VolumeCreating} {
					s.ends(model.TaskStateWorking, "")
					made, err := s.svc.RestoreNew(ctx, b.ID, model.Volume{ProjectID: "p", UserID: "u", SizeGiB: 2}, status, asker)
					if err != nil || made.Status != status {
						t.Fatalf("%+v, %v", made, err)
					}
					s.ends(model.TaskStateDone, "")
					s.volumeIs(made.ID, model.VolumeAvailable)
					made, err = s.store.Volume(ctx, made.ID, "")
					if err != nil || made.Metadata["src_backup_id"] != b.ID.String() || made.LaunchedAt == nil || made.ImageID != nil {
						t.Errorf("%+v, %v", made, err)
					}
				}
				s.noTasks()
				s.deleteBackup(b.ID, false)
				s.backupIs(b.ID, "gone")
				s.noTasks()
				if u, err := s.store.Usage(ctx, "p"); err != nil || u["backups"] != 0 || u["backup_gigabytes"] != 0 {
					t.Errorf("%v, %v", u, err)
				}
				if m := s.messages(b.ID); len(m) != 0 {
					t.Errorf("%+v", m)
				}
			})
		}
	}
}

// A volume gets back what made the first one bootable.
func TestRestoreSource(t *testing.T) {
	s := newSite(t, scheduler.Options{}, "o1", "n1")
	ctx := context.Background()
	s.ends(model.TaskStateDone, "")
	made, err := s.svc.Create(ctx, []model.Volume{{
		ProjectID: "p", UserID: "u", SizeGiB: 1, Bootable: true, Metadata: model.StringMap{"a": "b"}, ImageMetadata: model.StringMap{"image_name": "x"},
	}}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	b := s.backup(model.Backup{VolumeID: made[0].ID}, model.BackupOptions{})
	s.backupIs(b.ID, model.BackupAvailable)
	v, err := s.svc.RestoreNew(ctx, b.ID, model.Volume{ProjectID: "p", UserID: "u", SizeGiB: 1}, model.VolumeRestoringBackup, asker)
	if err != nil {
		t.Fatal(err)
	}
	s.volumeIs(v.ID, model.VolumeAvailable)
	v, err = s.store.Volume(ctx, v.ID, "")
	if err != nil || !v.Bootable || v.Metadata["a"] != "b" || v.ImageMetadata["image_name"] != "x" {
		t.Errorf("%+v, %v", v, err)
	}
}

// What fails is told, and nothing else is lost.
func TestBackupFails(t *testing.T) {
	s := newSite(t, scheduler.Options{}, "o1", "n1")
	ctx := context.Background()
	v := s.written(nil)
	told := func(id uuid.UUID, event, why string) {
		t.Helper()
		m := s.messages(id)
		if len(m) != 1 || m[0].EventID != event || m[0].RequestID != "req-1" || m[0].ResourceType != "VOLUME_BACKUP" || !strings.Contains(m[0].UserMessage, why) {
			t.Errorf("messages %+v", m)
		}
	}
	s.ends(model.TaskStateFailed, "the share is full")
	bad := s.backup(model.Backup{VolumeID: v.ID}, model.BackupOptions{})
	s.backupIs(bad.ID, model.BackupError)
	s.volumeIs(v.ID, model.VolumeAvailable)
	told(bad.ID, "VOLUME_VOLUME_BACKUP_013_020", "the share is full")
	if b, _ := s.store.Backup(ctx, bad.ID, ""); b.FailReason == nil || *b.FailReason != "the share is full" {
		t.Errorf("%+v", b)
	}
	s.noTasks()
	s.deleteBackup(bad.ID, false)
	s.backupIs(bad.ID, model.BackupErrorDeleting)
	if m := s.messages(bad.ID); len(m) != 2 || !slices.ContainsFunc(m, func(m model.Message) bool { return m.EventID == "VOLUME_VOLUME_BACKUP_014_025" }) {
		t.Errorf("messages %+v", m)
	}
	s.ends(model.TaskStateDone, "")
	s.deleteBackup(bad.ID, true)
	s.backupIs(bad.ID, "gone")

	b := s.backup(model.Backup{VolumeID: v.ID}, model.BackupOptions{})
	s.backupIs(b.ID, model.BackupAvailable)
	s.noTasks()
	s.ends(model.TaskStateFailed, "damaged backup: chunk 5")
	if err := s.svc.Restore(ctx, b.ID, v.ID, asker); err != nil {
		t.Fatal(err)
	}
	s.volumeIs(v.ID, model.VolumeErrorRestoring)
	s.backupIs(b.ID, model.BackupAvailable)
	told(b.ID, "VOLUME_VOLUME_BACKUP_015_026", "damaged backup: chunk 5")
	made, err := s.svc.RestoreNew(ctx, b.ID, model.Volume{ProjectID: "p", UserID: "u", SizeGiB: 1}, model.VolumeCreating, asker)
	if err != nil {
		t.Fatal(err)
	}
	s.volumeIs(made.ID, model.VolumeError)
	s.noTasks()
}

// One that is deleted by force while it is made goes when its node has stopped, and the volume
// has its status again.
func TestBackupForceDeleted(t *testing.T) {
	s := newSite(t, scheduler.Options{}, "o1", "n1")
	v := s.written(nil)
	s.ends(model.TaskStateWorking, "")
	b := s.backup(model.Backup{VolumeID: v.ID}, model.BackupOptions{})
	s.volumeIs(v.ID, model.VolumeBackingUp)
	s.down("n1", true) // and not known to be
	s.deleteBackup(b.ID, true)
	if st := s.status(v.ID); st != model.VolumeAvailable {
		t.Errorf("volume is %s", st)
	}
	s.ends(model.TaskStateDone, "")
	if open, err := s.store.OpenTasks(context.Background()); err != nil || len(open) != 0 || s.backupStatus(b.ID) != model.BackupDeleting {
		t.Errorf("%+v, %v: its node may still write it", open, err)
	}
	s.down("n1", false)
	s.backupIs(b.ID, "gone")
	s.noTasks()
	if m := s.messages(b.ID); len(m) != 0 {
		t.Errorf("%+v", m)
	}
	// A volume that is deleted by force takes the making with it, not a deletion.
	s.ends(model.TaskStateWorking, "")
	b = s.backup(model.Backup{VolumeID: v.ID}, model.BackupOptions{})
	if err := s.svc.Delete(context.Background(), v.ID, model.DeleteOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	s.backupIs(b.ID, model.BackupError)
	s.volumeIs(v.ID, "gone")
	s.ends(model.TaskStateDone, "")
	s.deleteBackup(b.ID, false)
	s.backupIs(b.ID, "gone")
	s.noTasks()

	v = s.written(nil)
	b = s.backup(model.Backup{VolumeID: v.ID}, model.BackupOptions{})
	s.backupIs(b.ID, model.BackupAvailable)
	s.noTasks()
	s.ends(model.TaskStateWorking, "")
	s.deleteBackup(b.ID, false)
	if err := s.svc.Delete(context.Background(), v.ID, model.DeleteOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	s.volumeIs(v.ID, "gone")
	if st := s.backupStatus(b.ID); st != model.BackupDeleting {
		t.Errorf("backup is %s", st)
	}
	s.ends(model.TaskStateDone, "")
	s.backupIs(b.ID, "gone")
	s.noTasks()
}

// down has a node be silent, or not any more.
func (s *site) down(host string, is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.agents[host].down = is
}

// Where no node reaches the store nothing is begun.
func TestNoBackupNode(t *testing.T) {
	s := newSite(t, scheduler.Options{}, "o1", "n1")
	ctx := context.Background()
	v := s.written(nil)
	s.ends(model.TaskStateDone, "")
	good := s.backup(model.Backup{VolumeID: v.ID}, model.BackupOptions{})
	s.backupIs(good.ID, model.BackupAvailable)
	s.noTasks()
	s.mu.Lock()
	s.agents["n1"].bare = true
	s.mu.Unlock()
	s.report("n1")
	zone := "elsewhere"
	for _, b := range []model.Backup{{VolumeID: v.ID}, {VolumeID: s.create(1, nil)[0].ID, AvailabilityZone: &zone}} {
		b = s.backup(b, model.BackupOptions{})
		if b.Status != model.BackupError || b.FailReason == nil || !strings.HasPrefix(*b.FailReason, "Service not found for creating backup.") {
			t.Errorf("%+v", b)
		}
		if m := s.messages(b.ID); len(m) != 1 || m[0].EventID != "VOLUME_VOLUME_BACKUP_013_024" {
			t.Errorf("%+v", m)
		}
		if st := s.status(b.VolumeID); st != model.VolumeAvailable {
			t.Errorf("volume is %s", st)
		}
	}
	if err := s.svc.Restore(ctx, good.ID, v.ID, asker); !errors.Is(err, model.ErrUnavailable) || s.status(v.ID) != model.VolumeAvailable {
		t.Errorf("%v", err)
	}
	s.mu.Lock()
	s.agents["o1"].bare = true
	s.mu.Unlock()
	s.report("o1")
	if err := s.svc.DeleteBackup(ctx, good.ID, false, asker); !errors.Is(err, model.ErrUnavailable) || s.backupStatus(good.ID) != model.BackupAvailable {
		t.Errorf("%v", err)
	}
	before := len(s.volumes())
	if _, err := s.svc.RestoreNew(ctx, good.ID, model.Volume{ProjectID: "p", SizeGiB: 1}, model.VolumeCreating, asker); !errors.Is(err, model.ErrUnavailable) || len(s.volumes()) != before {
		t.Errorf("%v", err)
	}
}

func (s *site) volumes() []model.Volume {
	s.t.Helper()
	vs, err := s.store.ListVolumes(context.Background(), model.ListQuery{})
	if err != nil {
		s.t.Fatal(err)
	}
	return vs
}

// An increment is of the latest backup, which has to be whole and is kept; one of a snapshot
// is of the latest before that.
func TestIncrements(t *testing.T) {
	s := newSite(t, scheduler.Options{}, "o1", "n1")
	ctx := context.Background()
	v := s.written(nil)
	s.ends(model.TaskStateDone, "")
	inc := model.BackupOptions{Incremental: true}
	full := s.backup(model.Backup{VolumeID: v.ID}, model.BackupOptions{})
	s.backupIs(full.ID, model.BackupAvailable)
	s.volumeIs(v.ID, model.VolumeAvailable)
	sn := s.snapshot(v.ID)
	s.snapshotIs(sn.ID, model.SnapshotAvailable)
	second := s.backup(model.Backup{VolumeID: v.ID}, inc)
	s.backupIs(second.ID, model.BackupAvailable)
	of := s.backup(model.Backup{VolumeID: v.ID, SnapshotID: &sn.ID}, inc)
	s.snapshotIs(sn.ID, model.SnapshotAvailable)
	s.backupIs(of.ID, model.BackupAvailable)
	if *second.ParentID != full.ID || *of.ParentID != full.ID || !of.DataTimestamp.Equal(sn.CreatedAt) {
		t.Errorf("%+v, %+v", second, of)
	}
	s.noTasks()
	if err := s.svc.DeleteBackup(ctx, full.ID, true, asker); !errors.As(err, new(*model.Refused)) {
		t.Errorf("%v", err)
	}
	s.ends(model.TaskStateWorking, "")
	third := s.backup(model.Backup{VolumeID: v.ID}, inc)
	if *third.ParentID != second.ID {
		t.Errorf("%+v", third)
	}
	if err := s.svc.DeleteBackup(ctx, second.ID, false, asker); !errors.As(err, new(*model.Refused)) {
		t.Errorf("of the parent of one that is being made: %v", err)
	}
	if _, err := s.svc.CreateBackup(ctx, model.Backup{VolumeID: v.ID, SnapshotID: &sn.ID, ProjectID: "p2"}, inc, asker); !errors.As(err, new(*model.Refused)) {
		t.Errorf("of another project's: %v", err)
	}
	s.ends(model.TaskStateDone, "")
	for _, id := range []uuid.UUID{third.ID, second.ID, of.ID, full.ID} {
		s.until("backup to be deletable", func() bool { return s.svc.DeleteBackup(ctx, id, false, asker) == nil })
		s.backupIs(id, "gone")
	}
	s.noTasks()
}

// Backups count as they are made; what is refused first is the volume's status.
func TestBackupQuota(t *testing.T) {
	s := newSite(t, scheduler.Options{}, "o1", "n1")
	ctx := context.Background()
	if err := s.store.SetQuotas(ctx, "p", map[string]int64{"backups": 1}); err != nil {
		t.Fatal(err)
	}
	v := s.written(nil)
	s.ends(model.TaskStateDone, "")
	b := s.backup(model.Backup{VolumeID: v.ID}, model.BackupOptions{})
	if u, err := s.store.Usage(ctx, "p"); err != nil || u["backups"] != 1 || u["backup_gigabytes"] != 1 {
		t.Errorf("%v, %v", u, err)
	}
	s.backupIs(b.ID, model.BackupAvailable)
	s.volumeIs(v.ID, model.VolumeAvailable)
	over := func() error {
		_, err := s.svc.CreateBackup(ctx, model.Backup{VolumeID: v.ID, ProjectID: "p", UserID: "u"}, model.BackupOptions{}, asker)
		return err
	}
	var q *model.QuotaError
	if err := over(); !errors.As(err, &q) || q.Resource != "backups" || q.Limit != 1 {
		t.Errorf("%v", err)
	}
	if _, err := s.store.MoveVolume(ctx, v.ID, model.VolumeMove{From: []model.VolumeStatus{model.VolumeAvailable}, To: model.VolumeError}); err != nil {
		t.Fatal(err)
	}
	if err := over(); !errors.As(err, new(*model.Refused)) {
		t.Errorf("%v", err)
	}
}
