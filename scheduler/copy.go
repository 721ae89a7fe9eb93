package scheduler

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// Copy makes all volumes, from snapshots or other volumes, or none. What they are made from
// is in the pool of one node, and so are they: nothing travels, whatever the size. Those whose
// type is not for that node get status error with a message, as Cinder's do. specs are the
// extra specs of their type.
func (s *Service) Copy(ctx context.Context, vols []model.Volume, specs model.StringMap) ([]model.Volume, error) {
	if len(vols) == 0 {
		return nil, nil
	}
	there, err := s.choiceFor(ctx, vols, specs)
	if err != nil {
		return nil, err
	}
	there.place(vols) // copies of what was never written to have no home
	made, err := s.store.CreateCopies(ctx, vols)
	if err != nil {
		return nil, err
	}
	s.tellHomes(made)
	for i := range made {
		reason, err := s.unfit(ctx, there, &made[i], specs)
		if err != nil {
			return nil, err
		}
		if reason == "" {
			continue
		}
		made[i], err = s.fail(ctx, made[i], reason, model.NewEvent(model.ResourceVolume, model.ActionScheduleVolume, model.DetailNoBackend))
		if err != nil {
			return nil, err
		}
	}
	return made, nil
}

// unfit says why a copy can't be of its type, "" if it can.
func (s *Service) unfit(ctx context.Context, there choice, v *model.Volume, specs model.StringMap) (string, error) {
	switch {
	case len(specs) == 0 || v.Home == nil && there.lack == "":
		return "", nil
	case v.Home == nil:
		return "no node's pool is as the volume type wants it: " + there.lack, nil
	}
	node, err := s.store.Node(ctx, *v.Home)
	if err != nil {
		return "", err
	}
	if why := lacks(s.opt.Backend, &node, specs); why != "" {
		return fmt.Sprintf("what it is made from is on node %s, whose pool is not as the volume type wants it: %s", node.Host, why), nil
	}
	return "", nil
}

func (s *Service) tellHomes(vols []model.Volume) {
	for i := range vols {
		if vols[i].Home != nil {
			s.tell(*vols[i].Home)
		}
	}
}

// Snapshot takes all snapshots or none, of volumes whose status is one of from. What a
// home has to do for it, it does behind.
func (s *Service) Snapshot(ctx context.Context, snaps []model.Snapshot, from []model.VolumeStatus) ([]model.Snapshot, error) {
	made, err := s.store.CreateSnapshots(ctx, snaps, from)
	if err != nil {
		return nil, err
	}
	s.tellSnapshots(made)
	return made, nil
}

// DeleteSnapshot takes a snapshot away whose status is one of from (nil: any). One without
// data is gone when it returns; of others the home deletes the data first.
func (s *Service) DeleteSnapshot(ctx context.Context, id uuid.UUID, from []model.SnapshotStatus) error {
	sn, err := s.store.MoveSnapshot(ctx, id, model.SnapshotMove{From: from, To: model.SnapshotDeleting})
	if err != nil {
		return err
	}
	if sn.Home == nil {
		return s.forgetSnapshot(ctx, id)
	}
	s.tell(*sn.Home)
	return nil
}

// Revert brings a volume back to what one of its snapshots holds.
func (s *Service) Revert(ctx context.Context, volume, snapshot uuid.UUID) error {
	var v model.Volume
	err := s.store.Tx(ctx, func(t Tx) error {
		var err error
		v, err = t.Revert(volume, snapshot)
		return err
	})
	if err != nil {
		return err
	}
	s.tellHomes([]model.Volume{v})
	return nil
}

// Extend gives a volume whose status is one of from a new, larger size in GiB. Where its
// device stands its home makes it larger, and the instances that have it are told then.
func (s *Service) Extend(ctx context.Context, id uuid.UUID, gib int, from []model.VolumeStatus) error {
	v, err := s.store.Volume(ctx, id)
	if err != nil {
		return err
	}
	if v.ImageID == nil { // a blank volume can fill up wholly
		if err := s.growsInto(ctx, v, gib); err != nil {
			return err
		}
	}
	v, err = s.store.ExtendVolume(ctx, id, gib, from)
	if err != nil {
		return err
	}
	s.tellHomes([]model.Volume{v})
	return nil
}

func (s *Service) growsInto(ctx context.Context, v model.Volume, gib int) error {
	nodes, err := s.store.Nodes(ctx)
	if err != nil {
		return err
	}
	var largest int64
	for _, n := range nodes {
		if n.Compute && (v.Home == nil || *v.Home == n.Host) {
			largest = max(largest, n.PoolTotal)
		}
	}
	if int64(gib)<<30 > largest {
		return fmt.Errorf("%w: %d GiB are more than the pool that could hold them (%d GiB)", model.ErrInvalid, gib, largest>>30)
	}
	return nil
}

// extended ends an extension that the home has reported.
func (s *Service) extended(ctx context.Context, id uuid.UUID) error {
	_, err := s.store.FinishExtend(ctx, id)
	s.wakeJobs()
	return err
}

// Reimage has a volume whose status is one of from begin anew from an image; metadata is what
// is shown of that. Where the image is to be imported first it is done behind.
func (s *Service) Reimage(ctx context.Context, id uuid.UUID, image model.Image, metadata model.StringMap, from []model.VolumeStatus) error {
	was, err := s.store.Volume(ctx, id)
	if err != nil {
		return err
	}
	if _, err := s.store.Reimage(ctx, id, image, metadata, from); err != nil {
		return err
	}
	s.tellHomes([]model.Volume{was})
	s.wakeJobs()
	return nil
}
