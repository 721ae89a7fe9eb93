package wire

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler"
)

// document is the last one that a node has taken.
func (s *site) document(host string) model.Desired {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.agents[host].doc
}

func migration(v model.Volume) string {
	if v.MigrationStatus == nil {
		return ""
	}
	return *v.MigrationStatus
}

func (s *site) migrate(id uuid.UUID, host string) {
	s.t.Helper()
	if err := s.svc.Migrate(context.Background(), id, host, model.Task{ProjectID: "p", UserID: "u"}); err != nil {
		s.t.Fatal(err)
	}
}

// serving are the agents as they are while data are copied: the old home never ends by itself.
func (s *site) serving(ends model.TaskState, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taskState, s.taskError, s.serves = ends, why, true
}

// What was written is copied, and then the home is another, in one step; nothing is left on the old one.
func TestMigrate(t *testing.T) {
	for name, image := range map[string]*model.Image{"image": anImage(), "blank": nil} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, scheduler.Options{}, "o1", "n1", "n2")
			v := s.written(image)
			before := s.thinsOf("n1")
			s.serving(model.TaskStateWorking, "")
			s.migrate(v.ID, "n2")
			s.until("the new home to have a device to fill", func() bool {
				d := s.document("n2")
				return len(d.Tasks) == 1 && d.Tasks[0].Kind == model.TaskMigrate && s.thinsOf("n2") == 1
			})
			s.until("the old home to serve", func() bool { d := s.document("n1"); return len(d.Tasks) == 1 && d.Tasks[0].Kind == model.TaskServe })
			now := s.volume(v.ID)
			if now.Status != model.VolumeMaintenance || migration(now) != "migrating" || *now.Home != "n1" || *now.ThinID != *v.ThinID {
				t.Errorf("meanwhile %+v", now)
			}
			// Who may read, and what it reads, fit together; the source can't be written to.
			to, from := s.document("n2").Tasks[0], s.document("n1").Tasks[0]
			if to.Source == nil || to.Source.Address != "n1:3260" || to.Source.IQN != model.VolumeIQN("n1", from.ID) || len(to.Source.Secret) != 16 {
				t.Errorf("%+v", to.Source)
			}
			for _, d := range s.document("n1").Volumes {
				if d.ID == from.ID && (!d.Frozen || d.SourceThin != uint32(*v.ThinID) || len(d.Hosts) != 1 || d.Hosts[0].Initiator != "iqn.test:n2" ||
					d.Hosts[0].User != to.Source.User || d.Hosts[0].Secret != to.Source.Secret) {
					t.Errorf("served: %+v", d)
				}
			}
			if strings.Contains(string(to.Args)+string(from.Args), to.Source.Secret) {
				t.Error("the secret is in the arguments")
			}
			for what, err := range map[string]error{
				"attach": func() error {
					_, err := s.store.Reserve(context.Background(), model.Attachment{VolumeID: v.ID, ProjectID: "p", UserID: "u"})
					return err
				}(),
				"delete":   s.svc.Delete(context.Background(), v.ID, model.DeleteOptions{}),
				"unmanage": s.svc.Unmanage(context.Background(), v.ID),
				"again":    s.svc.Migrate(context.Background(), v.ID, "n2", model.Task{}),
			} {
				if !errors.Is(err, model.ErrConflict) {
					t.Errorf("%s meanwhile: %v", what, err)
				}
			}
			s.serving(model.TaskStateDone, "")
			s.until("it to be there", func() bool { return s.status(v.ID) == model.VolumeAvailable })
			now = s.volume(v.ID)
			if migration(now) != "success" || *now.Home != "n2" || !now.Materialized || !s.has("n2", *now.ThinID) || now.SourceThin != nil {
				t.Errorf("afterwards %+v", now)
			}
			s.noTasks()
			s.until("the old home to have nothing of it", func() bool { return s.thinsOf("n1") == before-1 })
			if _, _, err := s.connect(v.ID, "n2"); err != nil {
				t.Error(err)
			}
			if err := s.svc.Migrate(context.Background(), v.ID, "n1", model.Task{}); !errors.Is(err, model.ErrInUse) && !errors.Is(err, model.ErrConflict) {
				t.Errorf("while it is attached: %v", err)
			}
		})
	}
}

// Whatever fails, the volume is where it was, and nothing is left on either node.
func TestMigrateFails(t *testing.T) {
	ctx := context.Background()
	for name, fails := range map[string]func(s *site, v model.Volume){
		"copying": func(s *site, _ model.Volume) { s.serving(model.TaskStateFailed, "no luck") },
		"the old home": func(s *site, _ model.Volume) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.serveFails = "no luck"
		},
		"somebody resets it": func(s *site, v model.Volume) {
			available := model.VolumeAvailable
			if err := s.store.ResetVolume(ctx, v.ID, &available, nil, nil); err != nil {
				s.t.Fatal(err)
			}
			s.serving(model.TaskStateDone, "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, scheduler.Options{}, "o1", "n1", "n2")
			v := s.written(nil)
			s.serving(model.TaskStateWorking, "")
			s.migrate(v.ID, "n2")
			s.until("the new home to have a device to fill", func() bool { return s.thinsOf("n2") == 1 })
			fails(s, v)
			s.noTasks()
			s.until("no thin device to be left", func() bool { return s.thinsOf("n2") == 0 && s.thinsOf("n1") == 1 })
			now := s.volume(v.ID)
			if now.Status != model.VolumeAvailable || *now.Home != "n1" || *now.ThinID != *v.ThinID {
				t.Errorf("%+v", now)
			}
			if name != "somebody resets it" && (migration(now) != "error" || now.Error == nil || !strings.Contains(*now.Error, "no luck")) {
				t.Errorf("%s, %v", migration(now), now.Error)
			}
			s.serving(model.TaskStateDone, "")
			s.mu.Lock()
			s.serveFails = ""
			s.mu.Unlock()
			if name == "somebody resets it" {
				none := ""
				if err := s.store.ResetVolume(ctx, v.ID, nil, nil, &none); err != nil {
					t.Fatal(err)
				}
			}
			s.migrate(v.ID, "n2") // it may be tried again
			s.until("it to be there", func() bool { return s.status(v.ID) == model.VolumeAvailable })
			if now = s.volume(v.ID); *now.Home != "n2" || now.Error != nil {
				t.Errorf("%+v", now)
			}
		})
	}
}

// A volume that is deleted by force while it is moved leaves nothing.
func TestMigrateDeleted(t *testing.T) {
	s := newSite(t, scheduler.Options{}, "o1", "n1", "n2")
	v := s.written(nil)
	s.serving(model.TaskStateWorking, "")
	s.migrate(v.ID, "n2")
	s.until("the new home to have a device to fill", func() bool { return s.thinsOf("n2") == 1 })
	if err := s.svc.Delete(context.Background(), v.ID, model.DeleteOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	s.until("it to be gone", func() bool { return s.status(v.ID) == "gone" })
	s.noTasks()
	s.until("no thin device to be left", func() bool { return s.thinsOf("n2") == 0 && s.thinsOf("n1") == 0 })
}

// What nothing was written to is there at once.
func TestMigrateEmpty(t *testing.T) {
	ctx := context.Background()
	s := newSite(t, scheduler.Options{}, "o1", "n1", "n2")
	v := s.create(1, nil)[0]
	for _, host := range []string{"n1", "n2"} {
		s.migrate(v.ID, host)
		if now := s.volume(v.ID); now.Status != model.VolumeAvailable || migration(now) != "success" || *now.Home != host || now.Materialized {
			t.Errorf("to %s: %+v", host, now)
		}
	}
	if err := s.svc.Migrate(ctx, v.ID, "n2", model.Task{}); !errors.Is(err, model.ErrConflict) {
		t.Errorf("to where it is: %v", err)
	}
	if err := s.svc.Migrate(ctx, v.ID, "n9", model.Task{}); !errors.Is(err, model.ErrInvalid) {
		t.Errorf("to no node: %v", err)
	}
	s.until("the old home to have dropped it", func() bool {
		st, err := s.store.NodeState(ctx, "n1")
		return err == nil && len(st.Dropped) == 0 && len(st.Volumes) == 0
	})
	_, a, err := s.connect(v.ID, "n1")
	if err != nil || !strings.Contains(string(a.ConnectionInfo), "iscsi") {
		t.Errorf("it is reached by %s, %v", a.ConnectionInfo, err)
	}
	v = s.written(nil)
	if _, err := s.svc.Snapshot(ctx, []model.Snapshot{{VolumeID: v.ID, ProjectID: "p", UserID: "u"}}, []model.VolumeStatus{model.VolumeAvailable}); err != nil {
		t.Fatal(err)
	}
	if err := s.svc.Migrate(ctx, v.ID, "n2", model.Task{}); !errors.Is(err, model.ErrConflict) {
		t.Errorf("with a snapshot: %v", err)
	}
}
