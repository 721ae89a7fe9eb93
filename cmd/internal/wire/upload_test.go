package wire

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler"
)

// imageService records what is abandoned in it.
type imageService struct {
	mu   sync.Mutex
	gone []string
	fail bool
}

func (i *imageService) Abandon(_ context.Context, id string) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.fail {
		i.fail = false
		return errors.New("injected: the image service is away")
	}
	i.gone = append(i.gone, id)
	return nil
}

func (i *imageService) abandoned(id string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Contains(i.gone, id)
}

// upload begins one; its image's id is returned.
func (s *site) upload(volume uuid.UUID, start bool, from ...model.VolumeStatus) (model.Task, string) {
	s.t.Helper()
	image := uuid.NewString()
	k, err := s.svc.BeginUpload(context.Background(), volume, model.UploadArgs{ImageID: image, DiskFormat: "raw"},
		model.Task{ProjectID: "p", UserID: "u", RequestID: "req-1"}, from)
	if err == nil && start {
		err = s.svc.StartUpload(context.Background(), k.ID)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return k, image
}

// ends has the agents report how tasks end.
func (s *site) ends(state model.TaskState, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taskState, s.taskError = state, why
}

func (s *site) noTasks() {
	s.t.Helper()
	s.until("the tasks to be gone", func() bool {
		tasks, err := s.store.OpenTasks(context.Background())
		if err != nil || len(tasks) > 0 {
			return false
		}
		for h := range s.agents {
			st, err := s.store.NodeState(context.Background(), h)
			if err != nil || len(st.Tasks) > 0 {
				return false
			}
		}
		return true
	})
}

func (s *site) messages(volume uuid.UUID) (out []model.Message) {
	s.t.Helper()
	all, err := s.store.Messages(context.Background(), model.ListQuery{})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, m := range all {
		if m.ResourceUUID != nil && *m.ResourceUUID == volume {
			out = append(out, m)
		}
	}
	return out
}

// What was written is read at the volume's home from a copy, what never was from whoever has
// it; the volume has its status again, whatever comes of it, and nothing is left.
func TestUpload(t *testing.T) {
	for name, image := range map[string]*model.Image{"image": anImage(), "blank": nil} {
		for _, written := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				s := newSite(t, scheduler.Options{}, "o1", "n1")
				var v model.Volume
				if written {
					v = s.written(image)
				} else {
					vols := s.create(1, image)
					s.available(vols)
					v = vols[0]
				}
				before := s.thinsOf("n1")
				s.ends(model.TaskStateWorking, "")
				k, _ := s.upload(v.ID, true, model.VolumeAvailable)
				host := "o1"
				if written {
					host = "n1"
				}
				if k.Host != host || (k.ThinID != nil) != written || k.Bytes != v.Bytes() {
					t.Errorf("%+v", k)
				}
				s.volumeIs(v.ID, model.VolumeUploading)
				s.until("progress", func() bool {
					k, err := s.store.Task(context.Background(), k.ID)
					return err == nil && k.Phase == "send" && k.Done == 5 && k.Materialized == written
				})
				if _, err := s.svc.BeginUpload(context.Background(), v.ID, model.UploadArgs{}, model.Task{ProjectID: "p", UserID: "u"}, []model.VolumeStatus{model.VolumeAvailable}); !errors.Is(err, model.ErrConflict) {
					t.Errorf("a second one: %v", err)
				}
				s.ends(model.TaskStateDone, "")
				s.volumeIs(v.ID, model.VolumeAvailable)
				s.noTasks()
				if after := s.thinsOf("n1"); after != before {
					t.Errorf("%d thin devices, %d before", after, before)
				}
				if m := s.messages(v.ID); len(m) != 0 {
					t.Errorf("messages %+v", m)
				}
			})
		}
	}
}

// What fails is taken back: the image is deleted as soon as its service answers, the owner is
// told, and the volume has the status that its attachments have by then.
func TestUploadFails(t *testing.T) {
	images := &imageService{fail: true}
	s := newSite(t, scheduler.Options{Images: images}, "o1", "n1")
	vols := s.create(1, anImage())
	s.available(vols)
	v := vols[0]
	att, a, err := s.connect(v.ID, "n1")
	if err == nil {
		err = s.store.CompleteAttachment(context.Background(), a.ID)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.volumeIs(v.ID, model.VolumeInUse)
	s.ends(model.TaskStateWorking, "")
	_, image := s.upload(v.ID, true, model.VolumeInUse)
	s.volumeIs(v.ID, model.VolumeUploading)
	s.ends(model.TaskStateFailed, "glance is full")
	s.volumeIs(v.ID, model.VolumeInUse)
	s.until("the image to be deleted", func() bool { return images.abandoned(image) })
	m := s.messages(v.ID)
	if len(m) != 1 || m[0].EventID != "VOLUME_VOLUME_003_004" || m[0].RequestID != "req-1" || !strings.Contains(m[0].UserMessage, "glance is full") {
		t.Errorf("messages %+v", m)
	}
	s.noTasks()
	_ = att
}

// A request that fails, or dies, before the node was told leaves the volume as it was and tells
// nobody; a volume that is deleted by force takes its work with it.
func TestUploadTakenBack(t *testing.T) {
	images := &imageService{}
	s := newSite(t, scheduler.Options{Images: images}, "o1", "n1")
	v := s.written(nil)
	k, image := s.upload(v.ID, false, model.VolumeAvailable)
	if err := s.svc.CancelUpload(context.Background(), k.ID, "no"); err != nil {
		t.Fatal(err)
	}
	s.volumeIs(v.ID, model.VolumeAvailable)
	if err := s.svc.StartUpload(context.Background(), k.ID); err == nil {
		t.Error("what was taken back can be begun")
	}
	s.noTasks()
	if m := s.messages(v.ID); len(m) != 0 {
		t.Errorf("messages %+v", m)
	}
	s.until("the image to be deleted", func() bool { return images.abandoned(image) })

	s.ends(model.TaskStateWorking, "")
	_, image = s.upload(v.ID, true, model.VolumeAvailable)
	if err := s.svc.Delete(context.Background(), v.ID, model.DeleteOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	s.volumeIs(v.ID, "gone")
	s.noTasks()
	s.until("the image to be deleted", func() bool { return images.abandoned(image) })
	if n := s.thinsOf("n1"); n != 0 {
		t.Errorf("%d thin devices are left", n)
	}
}

// observedTasks is what an agent tells of its document's tasks.
func (s *site) observedTasks(d model.Desired) (out []model.ObservedTask) {
	for _, k := range d.Tasks {
		o := model.ObservedTask{ID: k.ID, State: s.taskState, Phase: "send", Done: 5, Total: 10, Error: s.taskError}
		switch {
		case k.Kind == model.TaskServe && k.State == model.Present && s.serves:
			o = model.ObservedTask{ID: k.ID, State: model.TaskStateWorking}
			if s.serveFails != "" {
				o.State, o.Error = model.TaskStateFailed, s.serveFails
			}
		case k.State == model.Absent:
			o = model.ObservedTask{ID: k.ID, State: model.TaskStateAbsent}
		case s.taskState == model.TaskStateDone:
			if o.Result, _ = json.Marshal(model.UploadResult{Bytes: 1}); k.Kind == model.TaskCreateBackup {
				o.Result, _ = json.Marshal(model.BackupResult{Objects: 3})
			}
		}
		out = append(out, o)
	}
	return out
}
