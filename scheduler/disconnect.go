package scheduler

import (
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// Disconnect takes an attachment away: first the device or the target's entry at the
// home, then the row. A device that is still open is model.ErrInUse and nothing is lost.
// A home that does not answer does not hold it up: its document says what should be,
// and it will follow when it is back.
func (s *Service) Disconnect(ctx context.Context, id uuid.UUID) ([]model.Attachment, error) {
	att, vol, err := s.store.Attachment(ctx, id)
	if err != nil {
		return nil, err
	}
	if len(att.Connector) > 0 && vol.Home != nil {
		if err := s.takeAway(ctx, id, *vol.Home); err != nil {
			return nil, err
		}
	}
	var left []model.Attachment
	err = s.store.Tx(ctx, func(t Tx) error {
		_, v, err := t.LockAttachment(id)
		if err != nil {
			return err
		}
		if err := t.DeleteAttachment(id); err != nil {
			return err
		}
		left = slices.DeleteFunc(v.Attachments, func(a model.Attachment) bool { return a.ID == id })
		var statuses []model.AttachStatus
		for _, a := range left {
			statuses = append(statuses, a.Status)
		}
		status, attach := model.StatusFromAttachments(statuses)
		if slices.Contains([]model.VolumeStatus{model.VolumeReserved, model.VolumeAttaching, model.VolumeInUse, model.VolumeDetaching, model.VolumeAvailable, model.VolumeError}, v.Status) {
			return t.SetVolumeStatus(v.ID, status, attach, nil)
		}
		return nil
	})
	return left, err
}

// takeAway has the home take down what stands for the attachment alone.
func (s *Service) takeAway(ctx context.Context, id uuid.UUID, home string) error {
	var node model.Node
	var volume string
	var before model.Attachment
	err := s.store.Tx(ctx, func(t Tx) error {
		att, v, err := t.LockAttachment(id)
		if err != nil {
			return err
		}
		before, volume = att, v.ID.String()
		att.Status, att.Connector = model.AttachDetaching, nil
		if err := t.UpdateAttachment(att); err != nil {
			return err
		}
		return t.Bump(home)
	})
	if err != nil {
		return err
	}
	if node, err = s.store.Node(ctx, home); err != nil {
		return err
	}
	if !node.Alive {
		s.log.WithField("node", home).WithField("volume", volume).Warn("detached while the volume's home does not answer; it follows when it is back")
		return nil
	}
	doc, err := s.document(ctx, home)
	if err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, s.opt.AttachTimeout/2)
	defer cancel()
	seen, err := s.nodes.Apply(wait, home, doc, []string{volume})
	if err != nil {
		s.log.WithError(err).WithField("node", home).Warn("detached though the volume's home did not answer; it follows when it is back")
		return nil
	}
	if _, err := s.saw(ctx, seen); err != nil {
		s.log.WithError(err).WithField("node", home).Warn("the answer of a node is not saved; its next report tells the same")
	}
	i := slices.IndexFunc(doc.Volumes, func(v model.DesiredVolume) bool { return v.ID == volume })
	v := seen.Volume(volume)
	if i < 0 || doc.Volumes[i].State == model.Present || v.State == model.DeviceInactive || v.State == model.DeviceAbsent {
		return nil
	}
	// Something holds the device open. The attachment stands again as it was.
	if err := s.putBack(ctx, before, home); err != nil {
		return err
	}
	return fmt.Errorf("%w: volume %s on %s: %s", model.ErrInUse, volume, home, v.Error)
}

// putBack has an attachment that can't be taken away stand again as it was. Its volume is in
// use then, whatever os-begin_detaching has said: who wanted it detached may try again.
func (s *Service) putBack(ctx context.Context, before model.Attachment, home string) error {
	err := s.store.Tx(context.WithoutCancel(ctx), func(t Tx) error {
		_, v, err := t.LockAttachment(before.ID)
		if err != nil {
			return err
		}
		if err := t.UpdateAttachment(before); err != nil {
			return err
		}
		if v.Status == model.VolumeDetaching && before.Status == model.AttachAttached {
			if err := t.SetVolumeStatus(v.ID, model.VolumeInUse, model.AttachAttached, nil); err != nil {
				return err
			}
		}
		return t.Bump(home)
	})
	s.tell(home)
	return err
}
