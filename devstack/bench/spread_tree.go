package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vmthunder/vmthunder/devstack/cluster"
	"github.com/vmthunder/vmthunder/driver"
)

// treeTries is how often a run is made in which the tree does not change.
const treeTries = 3

var errTreeMoved = errors.New("the tree changed while it was read")

func (s *spreadSite) treeContestant(degree int) *spreadContestant {
	return &spreadContestant{degree: degree, run: func(ctx context.Context, rate spreadRate) (r spreadResult, err error) {
		for moved := range treeTries {
			r, err = s.treeRun(ctx, degree, rate)
			r.moved = moved
			if !errors.Is(err, errTreeMoved) {
				break
			}
			s.progress("  %v", err)
		}
		return r, err
	}}
}

// treeRun makes a tree in which everything is cold, has it read, counts, and takes it away.
func (s *spreadSite) treeRun(ctx context.Context, degree int, rate spreadRate) (spreadResult, error) {
	if err := s.setDegree(ctx, degree); err != nil {
		return spreadResult{}, err
	}
	t, err := s.growTree(ctx)
	if err != nil {
		return spreadResult{}, err
	}
	r, err := s.timed(ctx, rate, t.targets)
	if err != nil {
		return r, err
	}
	now, err := s.treeRows(ctx)
	if err != nil {
		return r, err
	}
	moved := treeShape(now) != treeShape(t.members)
	if !moved {
		err = t.payload(ctx, &r)
	}
	if err := errors.Join(err, t.fell(ctx)); err != nil {
		return r, err
	}
	if moved {
		return r, fmt.Errorf("%w: %s became %s", errTreeMoved, treeShape(t.members), treeShape(now))
	}
	return r, nil
}

// spreadTree is an image's tree with a volume attached at each node.
type spreadTree struct {
	*spreadSite
	volumes, attachments []string
	targets              []spreadTarget
	members              []spreadMember
}

// spreadMember is a row of GET /vmthunder/images/{id}/tree.
type spreadMember struct {
	Host           string `json:"host"`
	Role           string `json:"role"`
	State          string `json:"state"`
	Parent         string `json:"parent"`
	ObservedParent string `json:"observed_parent"`
}

// growTree gives every node a new volume of the image, attaches all at once, and returns
// when everybody reads from the parent that the tree gives it.
func (s *spreadSite) growTree(ctx context.Context) (*spreadTree, error) {
	n := len(s.nodes)
	t := &spreadTree{spreadSite: s, volumes: make([]string, n), attachments: make([]string, n), targets: make([]spreadTarget, n)}
	admin := s.c.Admin()
	for i := range t.volumes {
		v, err := admin.CreateVolume(ctx, fmt.Sprintf("spread-%d", i+1), s.image, 1)
		if err != nil {
			return nil, err
		}
		t.volumes[i] = v.ID
	}
	g, gctx := errgroup.WithContext(ctx)
	for i, node := range s.nodes {
		g.Go(func() error {
			if _, err := admin.WaitVolume(gctx, t.volumes[i], "available", 2*time.Minute); err != nil {
				return err
			}
			a, err := admin.Attach(gctx, t.volumes[i], node.Name(), node.Initiator())
			t.attachments[i], t.targets[i] = a.ID, spreadTarget{node: node, path: a.Device()}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var why string
	err := cluster.Wait(ctx, 2*time.Minute, "the tree to stand", func() (_ bool, err error) {
		t.members, err = s.treeRows(ctx)
		why = treeUnsettled(t.members, n)
		return why == "", err
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, why)
	}
	return t, nil
}

func (s *spreadSite) treeRows(ctx context.Context) ([]spreadMember, error) {
	var out struct{ Members []spreadMember }
	return out.Members, s.c.Admin().Do(ctx, http.MethodGet, "/vmthunder/images/"+s.image+"/tree", nil, &out)
}

// treeUnsettled says who of so many relays is not there yet or does not read from its
// parent, "" when all do.
func treeUnsettled(ms []spreadMember, relays int) string {
	for _, m := range ms {
		switch {
		case m.Role == "root":
		case m.State != "active" || m.ObservedParent != m.Parent:
			return fmt.Sprintf("%s is %s and reads from %q, its parent is %q", m.Host, m.State, m.ObservedParent, m.Parent)
		default:
			relays--
		}
	}
	if relays != 0 {
		return fmt.Sprintf("%d nodes are not in the tree", relays)
	}
	return ""
}

// treeShape is who reads from whom, as one word.
func treeShape(ms []spreadMember) string {
	var out []string
	for _, m := range ms {
		if m.Role != "root" {
			out = append(out, m.Host+"<"+m.ObservedParent)
		}
	}
	return strings.Join(out, ",")
}

// treeChildren counts who reads from a host.
func treeChildren(ms []spreadMember, host string) int {
	n := 0
	for _, m := range ms {
		if m.ObservedParent == host && m.Role != "root" {
			n++
		}
	}
	return n
}

// payload counts what parents have sent since the tree was made, by the bytes of the set:
// the root, and the worst relay for each of its children.
func (t *spreadTree) payload(ctx context.Context, r *spreadResult) error {
	for _, m := range t.members {
		children := treeChildren(t.members, m.Host)
		if children == 0 {
			continue
		}
		requests, sent, err := t.served(ctx, m.Host)
		if err != nil {
			return err
		}
		x := float64(sent) / spreadSet
		if m.Role == "root" {
			r.origin, r.request = x, float64(sent)/float64(max(1, requests))
		} else {
			r.relay = max(r.relay, x/float64(children))
		}
	}
	return nil
}

// served is what the device that a member exports has been read for: every byte of
// iSCSI data that it sent, once, and what its children's kernels looked for on a new disk.
func (t *spreadTree) served(ctx context.Context, host string) (requests, bytes int64, err error) {
	n, err := t.c.Lab.Node(host)
	if err != nil {
		return 0, 0, err
	}
	minor, err := n.Run(ctx, "dmsetup", "info", "-c", "--noheadings", "-o", "minor", driver.ImageDevice(t.image, driver.PartRelay))
	if err != nil {
		return 0, 0, err
	}
	return readsOf(ctx, n, "dm-"+strings.TrimSpace(minor))
}

// fell takes the volumes away, and with the last one the image from all nodes, caches
// included: the next tree begins cold.
func (t *spreadTree) fell(ctx context.Context) error {
	nova, admin := t.c.Nova(), t.c.Admin()
	g, gctx := errgroup.WithContext(ctx)
	for i, v := range t.volumes {
		g.Go(func() error {
			if err := nova.Detach(gctx, t.attachments[i]); err != nil {
				return err
			}
			if err := admin.DeleteVolume(gctx, v); err != nil {
				return err
			}
			return admin.WaitGone(gctx, v, 2*time.Minute)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return cluster.Wait(ctx, 2*time.Minute, "the image to be gone from all nodes", func() (bool, error) {
		_, err := t.treeRows(ctx)
		var e *cluster.Error
		if errors.As(err, &e) && e.Status == http.StatusNotFound {
			return true, nil
		}
		return false, err
	})
}
