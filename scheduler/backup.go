package scheduler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// keepsBackups tells whether a node reaches the store of backups.
func keepsBackups(n model.Node) bool { return n.Backups }

// CreateBackup begins a backup of a volume, or of a snapshot of it, and returns the row. Why
// it can't be made as things are is a *model.Refused, too many are a *model.QuotaError. Where
// no node could make it, the backup has status error and its owner is told, as in Cinder.
// k says who asks.
func (s *Service) CreateBackup(ctx context.Context, b model.Backup, o model.BackupOptions, k model.Task) (model.Backup, error) {
	v, err := s.store.Volume(ctx, b.VolumeID)
	if err != nil {
		return b, err
	}
	k.Kind, k.Status, k.Access = model.TaskCreateBackup, model.TaskRunning, model.TaskCopy
	var made model.Backup
	var host string
	err = s.store.Tx(ctx, func(t Tx) error {
		host = ""
		room := t.ReserveBackup(b.ProjectID, v.SizeGiB)
		if room != nil && !errors.As(room, new(*model.QuotaError)) {
			return room
		}
		if v.ImageID != nil {
			if _, err := t.LockImage(*v.ImageID); err != nil {
				return err
			}
		}
		var err error
		made, host, err = s.beginBackup(t, b, v.SizeGiB, o, k, room)
		return err
	})
	if err != nil {
		return b, err
	}
	s.tell(host)
	return made, nil
}

// beginBackup is the rest of CreateBackup, with the project and the image locked; room is what
// the quota says.
func (s *Service) beginBackup(t Tx, b model.Backup, gib int, o model.BackupOptions, k model.Task, room error) (_ model.Backup, host string, _ error) {
	v, err := t.LockVolume(b.VolumeID)
	if err != nil {
		return b, "", err
	}
	var sn *model.Snapshot
	if b.SnapshotID != nil {
		row, err := t.LockSnapshot(*b.SnapshotID)
		if err != nil {
			return b, "", err
		}
		sn, b.DataTimestamp = &row, row.CreatedAt
	}
	if err := model.MayBackUp(&v, sn, o.Force); err != nil {
		return b, "", err
	}
	if room != nil {
		return b, "", room
	}
	if v.SizeGiB != gib {
		return b, "", fmt.Errorf("%w: volume %s was extended just now, try again", model.ErrConflict, v.ID)
	}
	b.SizeGiB, b.Status = v.SizeGiB, model.BackupCreating
	args := model.BackupArgs{}
	if o.Incremental {
		parent, err := s.lockParent(t, v.ID, b.ProjectID, sn)
		if err != nil {
			return b, "", err
		}
		b.ParentID, args.ParentID, args.ParentContainer = &parent.ID, parent.ID.String(), text(parent.Container)
	}
	if b.Source, err = sourceOf(&v); err != nil {
		return b, "", err
	}
	if b, err = t.AddBackup(b); err != nil {
		return b, "", err
	}
	args.BackupID, args.Container, args.CreatedAt, args.Source = b.ID.String(), text(b.Container), b.CreatedAt.UTC(), b.Source
	if k.Args, err = json.Marshal(args); err != nil {
		return b, "", err
	}
	if sn != nil {
		k, err = s.beginSnapshotTask(t, k, *sn)
	} else {
		k, err = s.beginTask(t, k, v)
	}
	if err == nil && b.AvailabilityZone != nil && *b.AvailabilityZone != "" {
		err = s.inZone(t, k.Host, *b.AvailabilityZone)
	}
	switch {
	case errors.Is(err, model.ErrUnavailable):
		b, err = s.noBackup(t, b, k, err)
		return b, "", err
	case err != nil:
		return b, "", err
	case sn != nil:
		err = t.SetSnapshotStatus(sn.ID, model.SnapshotBackingUp, nil)
	default:
		err = t.SetVolumeStatus(v.ID, model.VolumeBackingUp, v.AttachStatus, nil)
	}
	return b, k.Host, err
}

// inZone is model.ErrUnavailable for a node that is in another availability zone.
func (s *Service) inZone(t Tx, host, zone string) error {
	nodes, err := t.NodesOf(host)
	if err == nil && (len(nodes) == 0 || nodes[0].AvailabilityZone != zone) {
		err = fmt.Errorf("%w: node %s, which has the data, is not in availability zone %s", model.ErrUnavailable, host, zone)
	}
	return err
}

// noBackup ends a backup that nobody could make before it has begun.
func (s *Service) noBackup(t Tx, b model.Backup, k model.Task, why error) (model.Backup, error) {
	// A task that was added for a node of the wrong zone is taken back.
	tasks, err := t.TasksOfBackup(b.ID)
	if err != nil {
		return b, err
	}
	for _, other := range tasks {
		reason := why.Error()
		if _, err := t.MoveTask(other.ID, model.TaskMove{From: []model.TaskStatus{model.TaskRunning}, To: model.TaskFailed, Error: &reason}); err != nil {
			return b, err
		}
	}
	reason := "Service not found for creating backup. (" + why.Error() + ")"
	if b, err = t.MoveBackup(b.ID, model.BackupMove{To: model.BackupError, FailReason: &reason}); err != nil {
		return b, err
	}
	event := model.NewEvent(model.ResourceBackup, model.ActionCreateBackup, model.DetailBackupNotScheduled)
	return b, t.AddMessage(model.BackupMessage(event, &b, why.Error(), k.RequestID))
}

func (s *Service) lockParent(t Tx, volume uuid.UUID, project string, sn *model.Snapshot) (model.Backup, error) {
	all, err := t.BackupsOf(volume, project)
	if err != nil {
		return model.Backup{}, err
	}
	p, err := model.BackupParent(all, sn)
	if err != nil {
		return p, err
	}
	if p, err = t.LockBackup(p.ID); err != nil {
		return p, err
	}
	return model.BackupParent([]model.Backup{p}, nil) // it may have been moved since it was looked at
}

func sourceOf(v *model.Volume) (model.JSON, error) {
	return json.Marshal(model.BackupSource{Bootable: v.Bootable, Metadata: v.Metadata, ImageMetadata: v.ImageMetadata})
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// backupOf is the backup that a task is about, locked; nil if it is not there any more.
func backupOf(t Tx, k model.Task) (*model.Backup, error) {
	var args model.BackupArgs
	if err := json.Unmarshal(k.Args, &args); err != nil {
		return nil, fmt.Errorf("arguments of task %s: %w", k.ID, err)
	}
	id, err := uuid.Parse(args.BackupID)
	if err != nil {
		return nil, fmt.Errorf("arguments of task %s: %w", k.ID, err)
	}
	b, err := t.LockBackup(id)
	if errors.Is(err, model.ErrNotFound) {
		return nil, nil //nolint:nilnil // it is gone
	}
	return &b, err
}

// backupEnded gives the volume or the snapshot its status back, and the backup the one that
// it has come to.
func backupEnded(s *Service, t Tx, k model.Task, _ model.TaskStatus, v *model.Volume) error {
	b, err := backupOf(t, k)
	if err != nil {
		return err
	}
	if b != nil && b.Status == model.BackupCreating {
		move := model.BackupMove{To: model.BackupError, FailReason: k.Error}
		if k.Status == model.TaskSucceeded {
			var res model.BackupResult
			if err := json.Unmarshal(k.Result, &res); err != nil {
				return fmt.Errorf("result of task %s: %w", k.ID, err)
			}
			move = model.BackupMove{To: model.BackupAvailable, Objects: &res.Objects}
		}
		if _, err := t.MoveBackup(b.ID, move); err != nil {
			return err
		}
		if k.Status == model.TaskFailed {
			event := model.NewEvent(model.ResourceBackup, model.ActionCreateBackup, model.DetailBackupCreateFailed)
			if err := t.AddMessage(model.BackupMessage(event, b, text(k.Error), k.RequestID)); err != nil {
				return err
			}
		}
	}
	if k.SnapshotID != nil {
		sn, err := t.LockSnapshot(*k.SnapshotID)
		if errors.Is(err, model.ErrNotFound) || err == nil && sn.Status != model.SnapshotBackingUp {
			return nil
		}
		if err != nil {
			return err
		}
		return t.SetSnapshotStatus(sn.ID, model.SnapshotAvailable, nil)
	}
	if v == nil || v.Status != model.VolumeBackingUp {
		return nil // somebody has reset it
	}
	return s.statusBack(t, k, v)
}

// Restore overwrites a volume that is available with what a backup holds: status
// restoring-backup meanwhile. Why it can't be done as things are is a *model.Refused; where no
// node could do it model.ErrUnavailable. k says who asks.
func (s *Service) Restore(ctx context.Context, backup, volume uuid.UUID, k model.Task) error {
	seen, err := s.store.Volume(ctx, volume)
	if err != nil {
		return err
	}
	return s.restore(ctx, backup, k, func(t Tx, b *model.Backup) (model.Volume, error) {
		if seen.GroupID != nil && seen.Home == nil { // who works on a volume locks its group first
			if _, err := t.GroupHome(*seen.GroupID); err != nil {
				return seen, err
			}
		}
		if seen.ImageID != nil {
			if _, err := t.LockImage(*seen.ImageID); err != nil {
				return seen, err
			}
		}
		v, err := t.LockVolume(volume)
		if err != nil {
			return v, err
		}
		if err := model.MayRestoreTo(b, &v, model.VolumeAvailable); err != nil {
			return v, err
		}
		return v, t.SetVolumeStatus(v.ID, model.VolumeRestoringBackup, v.AttachStatus, nil)
	})
}

// RestoreNew makes a volume, in a status, and restores a backup to it. It is all or nothing.
func (s *Service) RestoreNew(ctx context.Context, backup uuid.UUID, v model.Volume, status model.VolumeStatus, k model.Task) (model.Volume, error) {
	var made model.Volume
	err := s.restore(ctx, backup, k, func(t Tx, b *model.Backup) (model.Volume, error) {
		var err error
		if made, err = t.AddVolume(v, status); err != nil {
			return made, err
		}
		return made, model.MayRestoreTo(b, &made, status)
	})
	return made, err
}

// restore begins a restore to the volume that target locks or makes, for which it looks at the
// backup as it was just before; that is looked at again once it is locked, after the volume.
func (s *Service) restore(ctx context.Context, backup uuid.UUID, k model.Task, target func(t Tx, b *model.Backup) (model.Volume, error)) error {
	seen, err := s.store.Backup(ctx, backup, "")
	if err != nil {
		return err
	}
	if err := model.MayRestore(&seen); err != nil {
		return err
	}
	k.Kind, k.Status, k.Access = model.TaskRestoreBackup, model.TaskRunning, model.TaskVolume
	var host string
	err = s.store.Tx(ctx, func(t Tx) error {
		v, err := target(t, &seen)
		if err != nil {
			return err
		}
		b, err := t.LockBackup(backup)
		if err != nil {
			return err
		}
		if err := model.MayRestore(&b); err != nil {
			return err
		}
		if k.Args, err = json.Marshal(model.BackupArgs{BackupID: b.ID.String(), Container: text(b.Container)}); err != nil {
			return err
		}
		if k, err = s.beginTask(t, k, v); err != nil {
			return err
		}
		host = k.Host
		_, err = t.MoveBackup(b.ID, model.BackupMove{To: model.BackupRestoring, RestoreVolumeID: &v.ID})
		return err
	})
	if err != nil {
		return err
	}
	s.tell(host)
	return nil
}

// restoreEnded makes the backup available again, and the volume available or an error: what
// is in it then is part of both.
func restoreEnded(s *Service, t Tx, k model.Task, _ model.TaskStatus, v *model.Volume) error {
	b, err := backupOf(t, k)
	if err != nil {
		return err
	}
	if b != nil && b.Status == model.BackupRestoring {
		if _, err := t.MoveBackup(b.ID, model.BackupMove{To: model.BackupAvailable}); err != nil {
			return err
		}
	}
	if b != nil && k.Status == model.TaskFailed {
		event := model.NewEvent(model.ResourceBackup, model.ActionRestoreBackup, model.DetailBackupRestoreFailed)
		if err := t.AddMessage(model.BackupMessage(event, b, text(k.Error), k.RequestID)); err != nil {
			return err
		}
	}
	if v == nil || v.Status != model.VolumeRestoringBackup && v.Status != model.VolumeCreating {
		return nil // somebody has reset it
	}
	if k.Status == model.TaskFailed {
		status := model.VolumeErrorRestoring
		if v.Status == model.VolumeCreating {
			status = model.VolumeError
		}
		return t.SetVolumeStatus(v.ID, status, v.AttachStatus, k.Error)
	}
	if b != nil {
		var src model.BackupSource
		if err := json.Unmarshal(b.Source, &src); err != nil {
			return fmt.Errorf("source of backup %s: %w", b.ID, err)
		}
		if err := t.Restored(v.ID, src, restoredFrom(b, v)); err != nil {
			return err
		}
	}
	return s.statusBack(t, k, v)
}

// restoredFrom is the backup that a volume says in its metadata it is a copy of: none for one
// that got back what it held itself (cinder/backup/manager.py, restore_backup).
func restoredFrom(b *model.Backup, v *model.Volume) *uuid.UUID {
	if old := v.Metadata["src_backup_id"]; b.VolumeID == v.ID && (old == "" || old == b.ID.String()) {
		return nil
	}
	return &b.ID
}

// DeleteBackup moves a backup to deleting and has a node remove what is in the store. One that
// others depend on, or without force one that is neither available nor error, is a
// *model.Refused; where no node reaches the store model.ErrUnavailable. k says who asks.
func (s *Service) DeleteBackup(ctx context.Context, id uuid.UUID, force bool, k model.Task) error {
	var tell []string
	err := s.store.Tx(ctx, func(t Tx) error {
		tell = nil
		open, err := s.lockTasksOf(t, id)
		if err != nil {
			return err
		}
		b, err := t.LockBackup(id)
		if err != nil {
			return err
		}
		children, err := t.BackupChildren(id)
		if err != nil {
			return err
		}
		if err := model.MayDeleteBackup(&b, children, force); err != nil {
			return err
		}
		if b, err = t.MoveBackup(id, model.BackupMove{To: model.BackupDeleting}); err != nil {
			return err
		}
		wait, hosts, err := s.abandonBackup(t, open)
		if err != nil {
			return err
		}
		if tell = hosts; wait {
			return nil // backupTaskGone goes on
		}
		host, err := s.beginBackupDeletion(t, b, k)
		tell = append(tell, host)
		return err
	})
	if err != nil {
		return err
	}
	s.tell(tell...)
	return nil
}

// lockTasksOf locks the tasks about a backup with their volumes.
func (s *Service) lockTasksOf(t Tx, backup uuid.UUID) ([]model.Task, error) {
	tasks, err := t.TasksOfBackup(backup)
	if err != nil {
		return nil, err
	}
	var out []model.Task
	for _, k := range tasks {
		k, err := t.LockTask(k.ID)
		if errors.Is(err, model.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, k)
	}
	return out, nil
}

// abandonBackup ends the tasks about a backup that is being deleted, and tells whether a node
// may still be writing it: then what is there is removed when that has stopped.
func (s *Service) abandonBackup(t Tx, tasks []model.Task) (wait bool, hosts []string, err error) {
	why := "the backup is being deleted"
	for _, k := range tasks {
		if !k.Ended() {
			if err := s.end(t, k, model.TaskMove{To: model.TaskFailed, Error: &why}); err != nil {
				return false, nil, err
			}
			hosts = append(hosts, k.Host)
		}
		nodes, err := t.NodesOf(k.Host)
		if err != nil {
			return false, nil, err
		}
		wait = wait || k.Kind == model.TaskCreateBackup && len(nodes) > 0 && nodes[0].Alive
	}
	return wait, hosts, nil
}

// beginBackupDeletion has a node that reaches the store remove a backup that is deleting.
func (s *Service) beginBackupDeletion(t Tx, b model.Backup, k model.Task) (host string, err error) {
	host, err = s.readerOf(t, model.TaskDeleteBackup, nil)
	if err != nil {
		return "", err
	}
	args, err := json.Marshal(model.BackupArgs{BackupID: b.ID.String(), Container: text(b.Container)})
	if err != nil {
		return "", err
	}
	_, err = t.AddTask(model.Task{
		Kind: model.TaskDeleteBackup, Status: model.TaskRunning, Access: model.TaskNone, Host: host, VolumeID: b.VolumeID,
		Bytes: max(1, int64(b.SizeGiB)<<30), Args: args, ProjectID: k.ProjectID, UserID: k.UserID, RequestID: k.RequestID,
	})
	return host, err
}

// backupTaskGone goes on with a deletion that has waited for the end of the backup's making.
func backupTaskGone(s *Service, t Tx, k model.Task) (host string, err error) {
	b, err := backupOf(t, k)
	if err != nil || b == nil || b.Status != model.BackupDeleting {
		return "", err
	}
	left, err := t.TasksOfBackup(b.ID)
	if err != nil || slices.ContainsFunc(left, func(o model.Task) bool { return o.Kind != model.TaskRestoreBackup }) {
		return "", err
	}
	host, err = s.beginBackupDeletion(t, *b, k)
	if errors.Is(err, model.ErrUnavailable) {
		why := err.Error()
		_, err = t.MoveBackup(b.ID, model.BackupMove{To: model.BackupErrorDeleting, FailReason: &why})
	}
	return host, err
}

// backupDeleted removes the row, or says why it stays.
func backupDeleted(_ *Service, t Tx, k model.Task, _ model.TaskStatus, _ *model.Volume) error {
	b, err := backupOf(t, k)
	if err != nil || b == nil || b.Status != model.BackupDeleting {
		return err
	}
	if k.Status == model.TaskSucceeded {
		return t.DeleteBackup(b.ID)
	}
	if _, err := t.MoveBackup(b.ID, model.BackupMove{To: model.BackupErrorDeleting, FailReason: k.Error}); err != nil {
		return err
	}
	event := model.NewEvent(model.ResourceBackup, model.ActionDeleteBackup, model.DetailBackupDeleteFailed)
	return t.AddMessage(model.BackupMessage(event, b, text(k.Error), k.RequestID))
}

// statusBack gives a volume the status back that its attachments have, unless it was reset
// meanwhile and the same is being done to it again.
func (s *Service) statusBack(t Tx, k model.Task, v *model.Volume) error {
	tasks, err := t.TasksOf(v.ID)
	if err != nil {
		return err
	}
	for _, other := range tasks {
		if other.Kind == k.Kind && other.ID != k.ID && other.SnapshotID == nil && !other.Ended() {
			return nil
		}
	}
	of := make([]model.AttachStatus, len(v.Attachments))
	for i, a := range v.Attachments {
		of[i] = a.Status
	}
	status, attach := model.StatusFromAttachments(of)
	return t.SetVolumeStatus(v.ID, status, attach, nil)
}
