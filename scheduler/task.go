package scheduler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// taskKind is what the control plane does about tasks of one kind; model.Task says how one
// is added.
type taskKind struct {
	// able tells whether a node can do it; nil: any can.
	able func(n model.Node) bool
	// ended is called in the transaction in which a task ends, with the task as it is then
	// (succeeded with its Result, or failed with its Error) and its volume locked; v is nil if
	// that is not there any more; was is the status that it had. It changes the status of what
	// waited for the task.
	ended func(s *Service, t Tx, k model.Task, was model.TaskStatus, v *model.Volume) error
	// gone, if it isn't nil, is called in the transaction in which the row of a task goes, of which
	// nothing is left on its node. Its volume is locked. The host is to be told.
	gone func(s *Service, t Tx, k model.Task) (host string, err error)
}

func taskKinds() map[model.TaskKind]taskKind {
	return map[model.TaskKind]taskKind{
		model.TaskUploadImage:   {ended: uploadEnded},
		model.TaskCreateBackup:  {able: keepsBackups, ended: backupEnded, gone: backupTaskGone},
		model.TaskRestoreBackup: {able: keepsBackups, ended: restoreEnded},
		model.TaskDeleteBackup:  {able: keepsBackups, ended: backupDeleted},
		model.TaskMigrate:       {ended: migrateEnded, gone: migrateGone},
		model.TaskServe:         {ended: serveEnded},
	}
}

// How long a task may be in the making, as no request takes, and how long the node of one
// may be dead, before it fails.
const (
	taskPrepare = 5 * time.Minute
	taskWait    = 10 * time.Minute
)

// beginTask adds a task that is queued or running on a volume, whose row is locked and whose
// image's is locked before it, and before both, if the task works on the volume itself, its
// group ([Tx.GroupHome]). What is set of the task is Kind, Status, Access, Args and who
// asked for it. A copy of what was written is read at the volume's home; of what never was,
// by whoever has the image, or anybody if there is none.
//
// Nobody alive who could do it is model.ErrUnavailable.
func (s *Service) beginTask(t Tx, k model.Task, v model.Volume) (model.Task, error) {
	k.VolumeID, k.Bytes = v.ID, v.Bytes()
	if k.Access == model.TaskCopy {
		k.ImageID = v.ImageID
	}
	var err error
	switch {
	case k.Access == model.TaskVolume:
		k.Host, err = s.homeForTask(t, k.Kind, v)
	case v.Pristine():
		k.Host, err = s.readerOf(t, k.Kind, v.ImageID)
	default:
		k.Host, k.SourceThin = *v.Home, v.ThinID
		err = s.mustBeAble(t, k)
	}
	if err != nil {
		return k, err
	}
	return t.AddTask(k)
}

// beginSnapshotTask is beginTask for what a snapshot holds.
func (s *Service) beginSnapshotTask(t Tx, k model.Task, sn model.Snapshot) (model.Task, error) {
	k.VolumeID, k.SnapshotID, k.Bytes, k.ImageID, k.Access = sn.VolumeID, &sn.ID, sn.Bytes(), sn.ImageID, model.TaskCopy
	if sn.ThinID != nil {
		k.Host, k.SourceThin = *sn.Home, sn.ThinID
		if err := s.mustBeAble(t, k); err != nil {
			return k, err
		}
		return t.AddTask(k)
	}
	var err error
	if k.Host, err = s.readerOf(t, k.Kind, sn.ImageID); err != nil {
		return k, err
	}
	return t.AddTask(k)
}

// homeForTask is the home of a volume that a task works on itself, which it gets now if it
// has none.
func (s *Service) homeForTask(t Tx, kind model.TaskKind, v model.Volume) (string, error) {
	var together *string
	if v.GroupID != nil && v.Home == nil {
		var err error
		if together, err = t.GroupHome(*v.GroupID); err != nil {
			return "", err
		}
	}
	home, err := s.homeOf(t, v, together, "", able(kind))
	if err != nil {
		return "", fmt.Errorf("%w: %w", model.ErrUnavailable, err)
	}
	if v.Home != nil && *v.Home == home.Host {
		return home.Host, s.mustBeAble(t, model.Task{Kind: kind, Host: home.Host})
	}
	if err := settle(t, v, home.Host); err != nil {
		return "", err
	}
	if v.ImageID == nil {
		return home.Host, nil
	}
	image, err := t.LockImage(*v.ImageID)
	if err != nil {
		return "", err
	}
	_, err = s.join(t, image, []model.Node{home}, false)
	return home.Host, err
}

// able is the kind's, or anybody.
func able(kind model.TaskKind) func(model.Node) bool {
	if f := taskKinds()[kind].able; f != nil {
		return f
	}
	return func(model.Node) bool { return true }
}

// mustBeAble is model.ErrUnavailable if the task's node can't do it. One that is not asked to
// be able to do anything may be away now.
func (s *Service) mustBeAble(t Tx, k model.Task) error {
	if taskKinds()[k.Kind].able == nil {
		return nil
	}
	nodes, err := t.NodesOf(k.Host)
	switch {
	case err != nil:
		return err
	case len(nodes) == 0 || !nodes[0].Alive:
		return fmt.Errorf("%w: node %s, which has the data, does not answer; start its agent", model.ErrUnavailable, k.Host)
	case !able(k.Kind)(nodes[0]):
		return fmt.Errorf("%w: node %s, which has the data, does not reach the store of backups; its section [backup] says where that is", model.ErrUnavailable, k.Host)
	}
	return nil
}

// readerOf chooses who reads what was never written: of an image's members that serve it
// the least deep, since an origin has it all on its disk; without an image anybody, an origin
// first, for the same reason.
func (s *Service) readerOf(t Tx, kind model.TaskKind, image *uuid.UUID) (string, error) {
	nodes, err := t.Nodes()
	if err != nil {
		return "", err
	}
	nodes = slices.DeleteFunc(nodes, func(n model.Node) bool { return !n.Alive || !able(kind)(n) })
	if image == nil {
		slices.SortStableFunc(nodes, func(a, b model.Node) int { return rank(b.Origin) - rank(a.Origin) })
		if len(nodes) == 0 {
			return "", fmt.Errorf("%w: no node that could do it is alive", model.ErrUnavailable)
		}
		return nodes[0].Host, nil
	}
	members, err := t.Members(*image)
	if err != nil {
		return "", err
	}
	known := nodeMap(nodes)
	members = slices.DeleteFunc(members, func(m model.Member) bool {
		_, alive := known[m.Host]
		return !alive || m.State != model.MemberActive
	})
	if len(members) == 0 {
		return "", fmt.Errorf("%w: nobody who has image %s and could do it is alive", model.ErrUnavailable, *image)
	}
	return slices.MinFunc(members, func(a, b model.Member) int { return a.Depth - b.Depth }).Host, nil
}

func rank(b bool) int {
	if b {
		return 1
	}
	return 0
}

// endTask moves a task that has not ended to its end, and what waited for it with it. One that
// has ended, or is gone, is left alone.
func (s *Service) endTask(ctx context.Context, id uuid.UUID, to model.TaskMove) error {
	var host, other string
	err := s.store.Tx(ctx, func(t Tx) error {
		host, other = "", ""
		k, err := t.LockTask(id)
		if errors.Is(err, model.ErrNotFound) || err == nil && k.Ended() {
			return nil
		}
		if err != nil {
			return err
		}
		host, other = k.Host, otherEnd(k)
		return s.end(t, k, to)
	})
	if err != nil {
		return fmt.Errorf("end of task %s: %w", id, err)
	}
	s.tell(host, other)
	s.wakeJobs()
	return nil
}

// end is endTask of a task that is locked.
func (s *Service) end(t Tx, k model.Task, to model.TaskMove) error {
	var v *model.Volume
	switch row, err := t.LockVolume(k.VolumeID); {
	case err == nil:
		v = &row
	case !errors.Is(err, model.ErrNotFound):
		return err
	}
	was := k.Status
	to.From = []model.TaskStatus{model.TaskQueued, model.TaskRunning}
	k, err := t.MoveTask(k.ID, to)
	if err != nil {
		return err
	}
	if kind, ok := taskKinds()[k.Kind]; ok {
		return kind.ended(s, t, k, was, v)
	}
	return nil
}

// tasksReported acts on what a node tells of its tasks.
func (s *Service) tasksReported(ctx context.Context, c Changes) error {
	var errs []error
	for _, e := range c.TasksEnded {
		to := model.TaskMove{To: model.TaskSucceeded, Result: e.Result}
		log := s.log.WithField("task", e.ID.String())
		if e.Failed {
			to = model.TaskMove{To: model.TaskFailed, Error: &e.Error}
			log.WithField("reason", e.Error).Warn("task failed")
		} else {
			log.Info("task done")
		}
		errs = append(errs, s.endTask(ctx, e.ID, to))
	}
	for _, id := range c.TasksGone {
		var tell string
		err := s.store.Tx(ctx, func(t Tx) error {
			k, err := t.DeleteTask(id)
			if err != nil {
				return err
			}
			if kind, ok := taskKinds()[k.Kind]; ok && kind.gone != nil {
				if tell, err = kind.gone(s, t, k); err != nil {
					return err
				}
			}
			if k.ImageID == nil {
				return nil
			}
			// It may have been the last that the image was kept for.
			return t.AddJob(model.JobReleaseImage, k.ImageID.String(), s.opt.Now().Add(s.opt.ImageIdle))
		})
		if !errors.Is(err, model.ErrNotFound) { // another replica was faster
			errs = append(errs, err)
		}
		s.tell(tell)
	}
	return errors.Join(errs...)
}

// abandonTasks ends those of a volume that is being deleted, whose row is locked.
func (s *Service) abandonTasks(t Tx, volume uuid.UUID) error {
	tasks, err := t.TasksOf(volume)
	if err != nil {
		return err
	}
	why := "the volume was deleted meanwhile"
	for _, k := range tasks {
		if k.SnapshotID != nil || k.Access == model.TaskNone {
			continue
		}
		if k, err = t.LockTask(k.ID); err != nil {
			return err
		}
		if k.Ended() { // maybe with one before
			continue
		}
		if err := s.end(t, k, model.TaskMove{To: model.TaskFailed, Error: &why}); err != nil {
			return err
		}
	}
	return nil
}

// watchTasks ends tasks that nobody else will: those whose request died while it prepared
// them, and those whose node stays dead.
func (s *Service) watchTasks(ctx context.Context) error {
	tasks, err := s.store.OpenTasks(ctx)
	if err != nil || len(tasks) == 0 {
		return err
	}
	nodes, err := s.store.Nodes(ctx)
	if err != nil {
		return err
	}
	known := nodeMap(nodes)
	var errs []error
	for _, k := range tasks {
		if why := forlorn(k, known[k.Host], s.opt.Now()); why != "" {
			s.log.WithField("task", k.ID.String()).WithField("reason", why).Warn("task given up")
			errs = append(errs, s.endTask(ctx, k.ID, model.TaskMove{To: model.TaskFailed, Error: &why}))
		}
	}
	return errors.Join(errs...)
}

// forlorn says why a task will not end by itself, "" if it may.
func forlorn(k model.Task, n model.Node, now time.Time) string {
	switch {
	case k.Status == model.TaskQueued && now.Sub(k.CreatedAt) > taskPrepare:
		return "the control plane was interrupted while it prepared the work; ask for it again"
	case k.Status == model.TaskRunning && !n.Alive && now.Sub(k.UpdatedAt) > taskWait && (n.LastSeen == nil || now.Sub(*n.LastSeen) > taskWait):
		return fmt.Sprintf("node %s, which did the work, does not answer; start its agent and ask for it again", k.Host)
	}
	return ""
}
