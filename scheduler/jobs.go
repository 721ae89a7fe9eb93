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

// jobLease is how long a taken job is held; its taker must be done or die before that.
const jobLease = 30 * time.Second

// jobLoop takes due jobs until none is left, then waits for one.
func (s *Service) jobLoop(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		for s.runJob(ctx) {
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.kick:
		}
	}
}

// errAgain: not done, nothing wrong; look again after a second.
var errAgain = errors.New("not yet")

// runJob takes and runs one job; false if there was none.
func (s *Service) runJob(ctx context.Context) bool {
	if ctx.Err() != nil {
		return false
	}
	job, err := s.store.TakeJob(ctx, s.opt.Host+"/"+s.opt.Binary, jobLease)
	if err != nil {
		if !errors.Is(err, model.ErrNotFound) && !errors.Is(err, model.ErrUnavailable) && ctx.Err() == nil {
			s.log.WithError(err).Error("take a job")
		}
		return false
	}
	one, cancel := context.WithTimeout(ctx, jobLease-5*time.Second)
	defer cancel()
	log := s.log.WithField("job", string(job.Kind)).WithField("subject", job.Subject)
	switch err := s.doJob(one, job); {
	case err == nil:
		err = s.store.FinishJob(ctx, job.ID)
		if err != nil {
			log.WithError(err).Warn("a job that is done will be done again")
		}
	case errors.Is(err, errAgain):
		s.retry(ctx, job, s.opt.Now().Add(time.Second), err)
	default:
		log.WithError(err).Warn("job failed, will be tried again")
		s.retry(ctx, job, s.opt.Now().Add(retryDelay(job.Attempts)), err)
	}
	return true
}

func (s *Service) retry(ctx context.Context, job model.Job, at time.Time, why error) {
	if err := s.store.RetryJob(ctx, job.ID, at, why.Error()); err != nil && ctx.Err() == nil {
		s.log.WithError(err).Warn("a job's lease has to run out before it is tried again")
	}
}

func (s *Service) doJob(ctx context.Context, job model.Job) error {
	id, err := uuid.Parse(job.Subject)
	if err != nil {
		return fmt.Errorf("job %d is about %q: %w", job.ID, job.Subject, err)
	}
	switch job.Kind {
	case model.JobImportImage:
		return s.importImage(ctx, id, job)
	case model.JobReleaseImage:
		return s.release(ctx, id)
	case model.JobAbandonImage:
		return s.abandonImage(ctx, id)
	case model.JobTellExtended, model.JobTellReimaged:
		return s.tellInstances(ctx, id, job)
	}
	return fmt.Errorf("job %d: this version knows no kind %q", job.ID, job.Kind)
}

// importImage sees to it that some origin is importing the image. It stays due until the
// image is active or has failed, so that the death of an origin is noticed.
func (s *Service) importImage(ctx context.Context, id uuid.UUID, job model.Job) error {
	var origin string
	err := s.store.Tx(ctx, func(t Tx) error {
		origin = ""
		image, err := t.LockImage(id)
		if err != nil {
			return err
		}
		if image.Status != model.ImageQueued && image.Status != model.ImageImporting {
			return nil
		}
		members, err := t.Members(id)
		if err != nil {
			return err
		}
		nodes, err := t.Nodes()
		if err != nil {
			return err
		}
		known := nodeMap(nodes)
		for _, m := range members {
			if m.Role == model.RoleRoot && m.State != model.MemberLeaving && known[m.Host].Alive {
				return errAgain // somebody is at it
			}
		}
		node, why := chooseOrigin(image, nodes, nil)
		if why != "" {
			if s.opt.Now().Sub(job.CreatedAt) > s.opt.OriginWait {
				return fmt.Errorf("%w: %s", errNoOrigin, why)
			}
			return fmt.Errorf("%w: %s", errAgain, why)
		}
		// A dead origin that had begun is let go; it cleans up when it is back.
		for _, m := range members {
			if m.Role == model.RoleRoot && m.State != model.MemberLeaving && m.Host != node.Host {
				m.State, m.Reason = model.MemberLeaving, "died while importing"
				if err := t.PutMember(m); err != nil {
					return err
				}
			}
		}
		if err := t.PutMember(model.Member{ImageID: id, Host: node.Host, Role: model.RoleRoot, State: model.MemberJoining, Reason: "origin with the most room"}); err != nil {
			return err
		}
		if err := t.SetImage(id, model.ImageImporting, nil); err != nil {
			return err
		}
		origin = node.Host
		return t.Bump(node.Host)
	})
	switch {
	case errors.Is(err, model.ErrNotFound):
		return nil
	case errors.Is(err, errNoOrigin):
		return s.store.FailImport(ctx, id, model.NewEvent(model.ResourceVolume, model.ActionScheduleVolume, model.DetailNoBackend), err.Error())
	case err != nil:
		return err
	case origin == "":
		return nil
	}
	s.log.WithField("image", id.String()).WithField("node", origin).Info("import begins")
	s.tell(origin)
	return errAgain
}

var errNoOrigin = errors.New("no origin can import the image")

// chooseOrigin takes the origin with the most room, but none of those, or says why there is none.
func chooseOrigin(image model.Image, nodes []model.Node, but map[string]bool) (model.Node, string) {
	need := max(image.SizeBytes, image.VirtualBytes)
	origins := slices.DeleteFunc(slices.Clone(nodes), func(n model.Node) bool { return !n.Origin || but[n.Host] })
	alive := slices.DeleteFunc(slices.Clone(origins), func(n model.Node) bool { return !n.Alive || !n.Enabled })
	room := slices.DeleteFunc(slices.Clone(alive), func(n model.Node) bool { return n.ImageFree < need })
	switch {
	case len(origins) == 0:
		return model.Node{}, "no node has [node] origin = true"
	case len(alive) == 0:
		return model.Node{}, fmt.Sprintf("none of %d origin nodes is alive and enabled", len(origins))
	case len(room) == 0:
		return model.Node{}, fmt.Sprintf("no origin has %d MiB free for images", need>>20)
	}
	return slices.MaxFunc(room, func(a, b model.Node) int {
		switch {
		case a.ImageFree != b.ImageFree:
			return int(min(1, max(-1, a.ImageFree-b.ImageFree)))
		case a.Host < b.Host:
			return 1
		}
		return -1
	}), ""
}
