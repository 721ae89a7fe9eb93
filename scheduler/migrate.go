package scheduler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// Values of migration_status, in Cinder's words.
const (
	migrating  = "migrating"
	completing = "completing" // the new home has the data, and takes down what it was copied with
	migrated   = "success"
	failed     = "error"
)

// Migrate moves an available volume to another node. One that nothing was ever written to is
// there when it returns. Of others the data are copied, and while that goes on the volume is in
// maintenance: the old home lets the new one read a frozen copy, which that writes to a thin
// device of its own, where it differs from the image; then the volume has its new home, and what
// it had on the old one goes. If anything fails, the volume is where it was.
//
// model.ErrConflict: the volume is in no state to be moved, or is there already;
// model.ErrInvalid: it can't be had there; model.ErrInUse: its device still stands.
func (s *Service) Migrate(ctx context.Context, id uuid.UUID, host string, who model.Task) error {
	seen, err := s.store.Volume(ctx, id)
	if err != nil {
		return err
	}
	return s.migrate(ctx, seen, host, nil, who)
}

// migrate is Migrate of a volume that gets another type with its new home, if that is not nil.
func (s *Service) migrate(ctx context.Context, seen model.Volume, host string, to *model.VolumeType, who model.Task) error {
	if !seen.Pristine() {
		if err := s.still(ctx, seen); err != nil {
			return err
		}
	}
	var tell []string
	err := s.whenLeft(ctx, func() (err error) {
		tell, err = s.migrateRows(ctx, seen, host, to, who)
		return err
	})
	if err != nil {
		return err
	}
	s.tell(tell...)
	return nil
}

// migrateRows writes what is decided: one transaction, no device touched. It returns whose documents
// are others now.
func (s *Service) migrateRows(ctx context.Context, seen model.Volume, host string, to *model.VolumeType, who model.Task) ([]string, error) {
	var tell []string
	err := s.store.Tx(ctx, func(t Tx) error {
		tell = nil
		if to != nil {
			if err := t.ReserveType(seen, to.ID); err != nil {
				return err
			}
		}
		var image *model.Image
		if seen.ImageID != nil {
			row, err := t.LockImage(*seen.ImageID)
			if err != nil {
				return err
			}
			image = &row
		}
		v, err := t.LockVolume(seen.ID)
		if err != nil {
			return err
		}
		if err := s.movable(t, v, host); err != nil {
			return err
		}
		node, old, err := s.betweenNodes(t, v, host, to)
		if err != nil {
			return err
		}
		if v.Pristine() {
			tell = []string{host, deref(v.Home)}
			if err := s.moveEmpty(t, v, host); err != nil || to == nil {
				return err
			}
			return t.SetType(v, to.ID, to.Is("multiattach"))
		}
		if tell, err = s.moveData(t, v, image, node, old, who); err != nil || to == nil {
			return err
		}
		return t.SetRetypeTo(v.ID, &to.ID)
	})
	return tell, err
}

// still sees that nobody has the volume's device any more.
func (s *Service) still(ctx context.Context, v model.Volume) error {
	ctx, cancel := context.WithTimeout(ctx, s.opt.AttachTimeout)
	defer cancel()
	doc, err := s.document(ctx, *v.Home)
	if err != nil {
		return err
	}
	o, err := s.nodes.Apply(ctx, *v.Home, doc, []string{v.ID.String()})
	if err != nil {
		return err
	}
	if at := o.Volume(v.ID.String()); at.State != model.DeviceInactive {
		return fmt.Errorf("%w: its device on node %s is %s; try again when it is down", model.ErrInUse, *v.Home, at.State)
	}
	return nil
}

func (s *Service) movable(t Tx, v model.Volume, host string) error {
	snaps, err := t.LockSnapshotsOf(v.ID)
	switch {
	case err != nil:
		return err
	case v.Status != model.VolumeAvailable, len(v.Attachments) > 0, v.Migrating(), v.GroupID != nil:
		return fmt.Errorf("%w: volume %s is %s", model.ErrConflict, v.ID, v.Status)
	case len(snaps) > 0:
		return fmt.Errorf("%w: volume %s has %d snapshots", model.ErrConflict, v.ID, len(snaps))
	case v.Home != nil && *v.Home == host:
		return fmt.Errorf("%w: volume %s is on node %s already", model.ErrConflict, v.ID, host)
	case !v.Pristine() && !v.Materialized:
		return fmt.Errorf("%w: the thin device of volume %s was never made", model.ErrConflict, v.ID)
	}
	return nil
}

// betweenNodes are the node that a volume is to come to and the one where it is. kind is the type that
// it gets with it, nil if it keeps its own.
func (s *Service) betweenNodes(t Tx, v model.Volume, host string, kind *model.VolumeType) (to, from model.Node, err error) {
	nodes, err := t.NodesOf(host, deref(v.Home))
	if err != nil {
		return to, from, err
	}
	var wants []model.StringMap
	if kind != nil {
		wants = []model.StringMap{kind.ExtraSpecs}
	} else if wants, err = t.Wants(v); err != nil {
		return to, from, err
	}
	known := nodeMap(nodes)
	to, ok := known[host]
	lack := lacks(s.opt.Backend, &to, wants...)
	invalid := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{model.ErrInvalid}, args...)...)
	}
	switch why := full(&to, &v, s.opt.Backend.ReservedPercentage); {
	case !ok || !to.Alive || !to.Enabled || !to.Compute:
		return to, from, invalid("No available service named '%s'", host)
	case to.Frozen:
		return to, from, invalid("node %s is frozen", host)
	case to.AvailabilityZone != v.AvailabilityZone:
		return to, from, invalid("node %s is in availability zone %s, volume %s in %s", host, to.AvailabilityZone, v.ID, v.AvailabilityZone)
	case lack != "":
		return to, from, invalid("node %s is not as the type of volume %s wants it: %s", host, v.ID, lack)
	case why != "":
		return to, from, invalid("%s", why)
	case v.Pristine():
		return to, from, nil
	}
	from, ok = known[*v.Home]
	if !ok || !from.Alive || from.Address == "" || to.Initiator == "" {
		return to, from, fmt.Errorf("%w: node %s, which holds volume %s, does not answer; start its agent", model.ErrUnavailable, *v.Home, v.ID)
	}
	return to, from, nil
}

// moveEmpty gives a volume that nothing was ever written to another home.
func (s *Service) moveEmpty(t Tx, v model.Volume, host string) error {
	if v.Home != nil {
		if err := t.Unhome(v); err != nil {
			return err
		}
	}
	if _, err := t.SetHome(v.ID, host); err != nil {
		return err
	}
	if err := t.Bump(host); err != nil {
		return err
	}
	return t.SetMigrationStatus(v.ID, migrated)
}

// moveData begins to copy, and returns whose documents are others now.
func (s *Service) moveData(t Tx, v model.Volume, image *model.Image, to, from model.Node, who model.Task) ([]string, error) {
	tell := []string{to.Host, from.Host}
	if image != nil {
		changed, err := s.join(t, *image, []model.Node{to}, false)
		if err != nil {
			return nil, err
		}
		tell = append(tell, changed...)
		if err := t.Bump(changed...); err != nil {
			return nil, err
		}
	}
	if err := s.abandonTasks(t, v.ID); err != nil { // of a volume that was reset
		return nil, err
	}
	k := who
	k.ID, k.VolumeID, k.ImageID, k.Bytes, k.Status, k.Secret = uuid.New(), v.ID, v.ImageID, v.Bytes(), model.TaskRunning, s.opt.NewSecret()
	serve := k
	k.Kind, k.Host, k.Access = model.TaskMigrate, to.Host, model.TaskFill
	serve.ID, serve.Kind, serve.Host, serve.Access, serve.SourceThin = model.ServeID(k.ID), model.TaskServe, from.Host, model.TaskCopy, v.ThinID
	var err error
	if k.Args, err = json.Marshal(model.MigrateArgs{Host: from.Host, Address: from.Address}); err != nil {
		return nil, err
	}
	if serve.Args, err = json.Marshal(model.ServeArgs{Host: to.Host, Initiator: to.Initiator, For: k.ID}); err != nil {
		return nil, err
	}
	for _, task := range []model.Task{serve, k} {
		if _, err := t.AddTask(task); err != nil {
			return nil, err
		}
	}
	if err := t.SetVolumeStatus(v.ID, model.VolumeMaintenance, v.AttachStatus, nil); err != nil {
		return nil, err
	}
	return tell, t.SetMigrationStatus(v.ID, migrating)
}

// migrateEnded gives the volume its new home, or leaves it where it is.
func migrateEnded(s *Service, t Tx, k model.Task, _ model.TaskStatus, v *model.Volume) error {
	var args model.MigrateArgs
	if err := json.Unmarshal(k.Args, &args); err != nil {
		return fmt.Errorf("arguments of task %s: %w", k.ID, err)
	}
	served, err := t.LockTask(model.ServeID(k.ID))
	if err != nil && !errors.Is(err, model.ErrNotFound) {
		return err
	}
	if err == nil && !served.Ended() {
		if err := s.end(t, served, model.TaskMove{To: k.Status, Error: k.Error}); err != nil {
			return err
		}
	}
	if v == nil {
		return nil // it is gone; what was copied goes
	}
	if v.Status != model.VolumeMaintenance || !v.Migrating() {
		return keepType(t, v) // somebody has reset it
	}
	here := v.Home != nil && *v.Home == args.Host && served.SourceThin != nil && *v.ThinID == *served.SourceThin
	if k.Status == model.TaskSucceeded && here && len(v.Attachments) == 0 {
		if err := t.Rehome(*v, k); err != nil {
			return err
		}
		return t.SetMigrationStatus(v.ID, completing)
	}
	why := k.Error
	if k.Status == model.TaskSucceeded {
		text := "the volume was changed meanwhile"
		why = &text
	}
	if err := t.SetVolumeStatus(v.ID, model.VolumeAvailable, v.AttachStatus, why); err != nil {
		return err
	}
	if err := keepType(t, v); err != nil {
		return err
	}
	return t.SetMigrationStatus(v.ID, failed)
}

// keepType of a volume that was to get another when it has moved.
func keepType(t Tx, v *model.Volume) error {
	if v.RetypeTo == nil {
		return nil
	}
	return t.SetRetypeTo(v.ID, nil)
}

// migrateGone: the new home has taken down what it has copied with, so the volume's own devices may
// stand on the data.
func migrateGone(_ *Service, t Tx, k model.Task) (string, error) {
	v, err := t.LockVolume(k.VolumeID)
	if errors.Is(err, model.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	moved := k.Status == model.TaskSucceeded && v.Home != nil && *v.Home == k.Host
	if moved && v.RetypeTo != nil && (!v.Migrating() || *v.MigrationStatus == completing) {
		if err := t.FinishRetype(v); err != nil {
			return "", err
		}
	}
	if v.Status != model.VolumeMaintenance || v.MigrationStatus == nil || *v.MigrationStatus != completing || *v.Home != k.Host {
		return "", nil
	}
	if err := t.SetVolumeStatus(v.ID, model.VolumeAvailable, v.AttachStatus, nil); err != nil {
		return "", err
	}
	return "", t.SetMigrationStatus(v.ID, migrated)
}

// serveEnded: without the old home there is nothing to copy.
func serveEnded(s *Service, t Tx, k model.Task, _ model.TaskStatus, _ *model.Volume) error {
	var args model.ServeArgs
	if err := json.Unmarshal(k.Args, &args); err != nil {
		return fmt.Errorf("arguments of task %s: %w", k.ID, err)
	}
	other, err := t.LockTask(args.For)
	if errors.Is(err, model.ErrNotFound) || err == nil && other.Ended() {
		return nil
	}
	if err != nil {
		return err
	}
	why := "the old home does not let its data be read any more"
	if k.Error != nil {
		why = strings.TrimSpace("old home: " + *k.Error)
	}
	return s.end(t, other, model.TaskMove{To: model.TaskFailed, Error: &why})
}

// otherEnd is the host of the task that a task ends with, "" if there is none.
func otherEnd(k model.Task) string {
	var args struct {
		Host string `json:"host"`
	}
	if k.Kind != model.TaskMigrate && k.Kind != model.TaskServe || json.Unmarshal(k.Args, &args) != nil {
		return ""
	}
	return args.Host
}
