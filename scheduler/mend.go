package scheduler

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler/doctor"
	"github.com/vmthunder/vmthunder/scheduler/tree"
)

// mend does repairs, each in a transaction of its own that looks again whether it is still wanted, and tells
// what it did. One that can't be done keeps no other from being done.
func (s *Service) mend(ctx context.Context, jobs []doctor.Job) []model.Mended {
	var out []model.Mended
	for _, j := range jobs {
		m := model.Mended{Repair: j.Repair, Of: fmt.Sprintf("%s %s", j.Kind, j.ID)}
		var err error
		m.Text, err = s.mendOne(ctx, j)
		switch {
		case err != nil:
			m.Error = err.Error()
		case m.Text == "":
			continue // it has mended itself meanwhile
		}
		s.log.WithField("of", m.Of).WithField("repair", string(m.Repair)).WithError(err).Info("doctor: " + m.Text)
		out = append(out, m)
	}
	return out
}

func (s *Service) mendOne(ctx context.Context, j doctor.Job) (string, error) {
	switch j.Repair {
	case model.RepairDocument:
		err := s.store.Tx(ctx, func(t Tx) error { return t.Bump(j.ID) })
		if err != nil {
			return "", err
		}
		s.tell(j.ID)
		return "was given a new document", nil
	case model.RepairNumbers:
		return "its next thin number is above all that are in use", s.store.RaiseThinNumbers(ctx, j.ID)
	case model.RepairUsage:
		n, err := s.store.RecountUsage(ctx, j.ID)
		if err != nil || n == 0 {
			return "", err
		}
		return "its usage was counted anew", nil
	case model.RepairTree, model.RepairImport, model.RepairRelease, model.RepairStatus:
	}
	id, err := uuid.Parse(j.ID)
	if err != nil {
		return "", fmt.Errorf("%w: %q is no id", model.ErrInvalid, j.ID)
	}
	switch j.Repair {
	case model.RepairTree:
		return s.mendTree(ctx, id)
	case model.RepairImport:
		return "its import was asked for", s.askFor(ctx, model.JobImportImage, id)
	case model.RepairRelease:
		return "nodes that do not need it let it go", s.askFor(ctx, model.JobReleaseImage, id)
	case model.RepairStatus:
		return s.mendStatus(ctx, j.Kind, id)
	default:
		return "", fmt.Errorf("%w: this version knows no repair %q", model.ErrInvalid, j.Repair)
	}
}

// askFor adds a job about an image, if that is there.
func (s *Service) askFor(ctx context.Context, kind model.JobKind, image uuid.UUID) error {
	err := s.store.Tx(ctx, func(t Tx) error {
		if _, err := t.LockImage(image); err != nil {
			return err
		}
		return t.AddJob(kind, image.String(), s.opt.Now())
	})
	s.wakeJobs()
	return err
}

// mendTree counts anew what follows from the parents, gives another parent to who can't reach his, and
// puts the tree in shape.
func (s *Service) mendTree(ctx context.Context, image uuid.UUID) (string, error) {
	var hosts []string
	var counted, moved int
	err := s.store.Tx(ctx, func(t Tx) error {
		hosts, counted, moved = nil, 0, 0
		img, err := t.LockImage(image)
		if err != nil {
			return err
		}
		if counted, err = t.RecountTree(image); err != nil {
			return err
		}
		nodes, err := t.Nodes()
		if err != nil {
			return err
		}
		o := tree.Observed{Degree: s.degree(img), Nodes: nodeMap(nodes)}
		if o.Members, err = t.Members(image); err != nil {
			return err
		}
		for _, d := range mendings(o) {
			plan := d(o)
			changed, err := s.write(t, image, plan, false)
			if err != nil {
				return err
			}
			hosts, moved = append(hosts, changed...), moved+len(plan.Changes)
			o.Members = tree.Apply(o.Members, plan)
		}
		return nil
	})
	s.tell(hosts...)
	if err != nil || counted+moved == 0 {
		return "", err
	}
	return fmt.Sprintf("depths and children of %d members were counted anew, the places of %d were changed", counted, moved), nil
}

// mendings are the decisions that put a tree right: the dead are leaves, who has lost his path gets another
// parent, the rest is as in every rebalance.
func mendings(o tree.Observed) []decide {
	var dead []string
	var out []decide
	for _, m := range o.Members {
		switch {
		case !o.Nodes[m.Host].Alive:
			dead = append(dead, m.Host)
		case m.State == model.MemberPathLost && m.Parent != nil:
			host, parent := m.Host, *m.Parent
			out = append(out, func(o tree.Observed) tree.Plan { return tree.PathLost(o, host, parent) })
		}
	}
	if len(dead) > 0 {
		out = append([]decide{func(o tree.Observed) tree.Plan { return tree.Lose(o, dead) }}, out...)
	}
	return append(out, tree.Rebalance)
}

// mendStatus ends what nobody works on any more, as the end of the work would have.
func (s *Service) mendStatus(ctx context.Context, kind model.FindingKind, id uuid.UUID) (string, error) {
	var text string
	var gone bool
	var err error
	if kind == model.FindVolume { // locks of images come before those of volumes
		err = s.store.Tx(ctx, func(t Tx) error {
			text, gone, err = s.endVolume(t, id)
			return err
		})
	} else {
		err = s.store.Tx(ctx, func(t Tx) error {
			text, gone, err = s.endOther(t, kind, id)
			return err
		})
	}
	if errors.Is(err, model.ErrNotFound) {
		return "", nil
	}
	if err != nil || !gone {
		return text, err
	}
	switch kind {
	case model.FindSnapshot:
		err = s.forgetSnapshot(ctx, id)
	default:
		v, errv := s.store.Volume(ctx, id)
		if err = errv; err == nil && v.Status == model.VolumeUnmanaging {
			err = s.store.FinishUnmanage(ctx, id)
		} else if err == nil {
			err = s.forget(ctx, id)
		}
	}
	if errors.Is(err, model.ErrNotFound) {
		return "", nil
	}
	return "its row is gone", err
}

// endVolume is mendStatus of a volume. It looks at it anew, with the locks; gone says that the row has to
// go, which is done in a transaction of its own as always.
func (s *Service) endVolume(t Tx, id uuid.UUID) (text string, gone bool, err error) {
	p, err := t.PassingOf(model.FindVolume, id)
	if err != nil {
		return "", false, err
	}
	var image model.Image
	if p.Image != nil {
		if image, err = t.LockImage(*p.Image); err != nil {
			return "", false, err
		}
	}
	v, err := t.LockVolume(id)
	if err != nil {
		return "", false, err
	}
	if p, err = t.PassingOf(model.FindVolume, id); err != nil {
		return "", false, err
	}
	end, ok := doctor.End(p)
	if !ok || s.opt.Now().Sub(p.Since) < stuckAfter {
		return "", false, nil
	}
	if end.Gone {
		return "", true, nil
	}
	if v.Migrating() {
		if err := t.SetMigrationStatus(id, failed); err != nil {
			return "", false, err
		}
		if err := keepType(t, &v); err != nil {
			return "", false, err
		}
	}
	status, attach := model.VolumeStatus(end.To), v.AttachStatus
	if end.ByAttachments {
		of := make([]model.AttachStatus, len(v.Attachments))
		for i, a := range v.Attachments {
			of[i] = a.Status
		}
		status, attach = model.StatusFromAttachments(of)
	}
	why := reason(end.Why)
	if status == model.VolumeAvailable && v.Status == model.VolumeDownloading && v.Bytes() < image.VirtualBytes {
		status, why = model.VolumeError, reason("the image does not fit into it")
	}
	return fmt.Sprintf("was %s, is %s", v.Status, status), false, t.SetVolumeStatus(id, status, attach, why)
}

// endOther is mendStatus of a snapshot or backup.
func (s *Service) endOther(t Tx, kind model.FindingKind, id uuid.UUID) (text string, gone bool, err error) {
	p, err := t.PassingOf(kind, id)
	if err != nil {
		return "", false, err
	}
	// Whoever begins to work on it has its volume locked.
	if p.Volume != nil {
		if _, err := t.LockVolume(*p.Volume); err != nil && !errors.Is(err, model.ErrNotFound) {
			return "", false, err
		}
	}
	if kind == model.FindSnapshot {
		_, err = t.LockSnapshot(id)
	} else {
		_, err = t.LockBackup(id)
	}
	if err != nil {
		return "", false, err
	}
	if p, err = t.PassingOf(kind, id); err != nil {
		return "", false, err
	}
	end, ok := doctor.End(p)
	if !ok || s.opt.Now().Sub(p.Since) < stuckAfter {
		return "", false, nil
	}
	if end.Gone {
		return "", true, nil
	}
	text = fmt.Sprintf("was %s, is %s", p.Status, end.To)
	if kind == model.FindSnapshot {
		return text, false, t.SetSnapshotStatus(id, model.SnapshotStatus(end.To), reason(end.Why))
	}
	_, err = t.MoveBackup(id, model.BackupMove{From: []model.BackupStatus{model.BackupStatus(p.Status)}, To: model.BackupStatus(end.To), FailReason: reason(end.Why)})
	return text, false, err
}

func reason(why string) *string {
	if why == "" {
		return nil
	}
	return &why
}
