package scheduler

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// Images is the image service, with this service's own credentials.
type Images interface {
	// Abandon deletes an image that has not got its data yet. One that is not there, or has
	// its data, is left alone.
	Abandon(ctx context.Context, id string) error
}

// BeginUpload moves a volume whose status is one of from (else ErrConflict) to uploading, and
// sets aside the work of sending what it holds to the image of args. Nothing happens before
// [Service.StartUpload]; if that is not called, the volume goes back after a while. k says
// who asks.
func (s *Service) BeginUpload(ctx context.Context, volume uuid.UUID, args model.UploadArgs, k model.Task, from []model.VolumeStatus) (model.Task, error) {
	b, err := json.Marshal(args)
	if err != nil {
		return k, err
	}
	seen, err := s.store.Volume(ctx, volume)
	if err != nil {
		return k, err
	}
	k.Kind, k.Status, k.Access, k.Args = model.TaskUploadImage, model.TaskQueued, model.TaskCopy, b
	var out model.Task
	err = s.store.Tx(ctx, func(t Tx) error {
		if seen.ImageID != nil {
			if _, err := t.LockImage(*seen.ImageID); err != nil {
				return err
			}
		}
		v, err := t.LockVolume(volume)
		switch {
		case err != nil:
			return err
		case !slices.Contains(from, v.Status):
			return fmt.Errorf("%w: volume %s is %s", model.ErrConflict, volume, v.Status)
		}
		if out, err = s.beginTask(t, k, v); err != nil {
			return err
		}
		return t.SetVolumeStatus(volume, model.VolumeUploading, v.AttachStatus, nil)
	})
	return out, err
}

// StartUpload has the node begin. The image is there by now.
func (s *Service) StartUpload(ctx context.Context, task uuid.UUID) error {
	var host string
	err := s.store.Tx(ctx, func(t Tx) error {
		k, err := t.MoveTask(task, model.TaskMove{From: []model.TaskStatus{model.TaskQueued}, To: model.TaskRunning})
		host = k.Host
		return err
	})
	if err != nil {
		return err
	}
	s.tell(host)
	return nil
}

// CancelUpload takes BeginUpload back: the volume has its status again.
func (s *Service) CancelUpload(ctx context.Context, task uuid.UUID, why string) error {
	return s.endTask(ctx, task, model.TaskMove{To: model.TaskFailed, Error: &why})
}

// uploadEnded gives the volume the status back that its attachments have. What was not sent
// whole is deleted in the image service, and the volume's owner is told, unless the request
// itself has failed.
func uploadEnded(s *Service, t Tx, k model.Task, was model.TaskStatus, v *model.Volume) error {
	if k.Status == model.TaskFailed {
		var args model.UploadArgs
		if err := json.Unmarshal(k.Args, &args); err != nil {
			return fmt.Errorf("arguments of task %s: %w", k.ID, err)
		}
		if err := t.AddJob(model.JobAbandonImage, args.ImageID, s.opt.Now()); err != nil {
			return err
		}
	}
	if v == nil {
		return nil
	}
	if k.Status == model.TaskFailed && was == model.TaskRunning {
		event := model.NewEvent(model.ResourceVolume, model.ActionCopyVolumeToImage, model.DetailUploadFailed)
		m := model.VolumeMessage(event, v, *k.Error)
		m.RequestID = k.RequestID
		if err := t.AddMessage(m); err != nil {
			return err
		}
	}
	if v.Status != model.VolumeUploading {
		return nil // somebody has reset it
	}
	return s.statusBack(t, k, v)
}

// abandonImage deletes what an upload that has failed has left in the image service.
func (s *Service) abandonImage(ctx context.Context, image uuid.UUID) error {
	if s.opt.Images == nil {
		return nil
	}
	return s.opt.Images.Abandon(ctx, image.String())
}
