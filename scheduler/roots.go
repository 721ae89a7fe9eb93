package scheduler

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// addRoot has another origin import an image that is in use and has fewer roots than it should. Until it
// has the image, nobody is put below it.
func (s *Service) addRoot(ctx context.Context, id uuid.UUID) error {
	origin := ""
	err := s.store.Tx(ctx, func(t Tx) error {
		origin = ""
		image, err := t.LockImage(id)
		if err != nil || image.Status != model.ImageActive {
			return err
		}
		members, err := t.Members(id)
		if err != nil {
			return err
		}
		nodes, err := t.Nodes()
		if err != nil {
			return err
		}
		node, ok := s.nextRoot(image, members, nodeMap(nodes))
		if !ok {
			return nil
		}
		origin = node.Host
		root := model.Member{ImageID: id, Host: origin, Role: model.RoleRoot, State: model.MemberImporting, Reason: "another origin, with the most room"}
		if err := t.PutMember(root); err != nil {
			return err
		}
		return t.Bump(origin)
	})
	if errors.Is(err, model.ErrNotFound) {
		return nil // it was released just now
	}
	if err != nil || origin == "" {
		return err
	}
	s.log.WithField("image", id.String()).WithField("node", origin).Info("another origin imports the image")
	s.tell(origin)
	return nil
}

func (s *Service) nextRoot(image model.Image, members []model.Member, nodes map[string]model.Node) (model.Node, bool) {
	return nextRoot(image, members, nodes, s.opt.Roots, s.opt.Now().Add(-s.opt.RootWait))
}

// nextRoot chooses an origin that is to hold an image too, if there are fewer roots than wanted that
// stay and have been heard of since a time, and an origin that has room and no other part in the tree.
// Only one imports at a time.
func nextRoot(image model.Image, members []model.Member, known map[string]model.Node, wanted int, since time.Time) (model.Node, bool) {
	have, parts := 0, map[string]bool{}
	for _, m := range members {
		parts[m.Host] = true
		n := known[m.Host]
		counts := !n.Draining && (n.Alive || n.LastSeen != nil && n.LastSeen.After(since))
		switch {
		case m.Role != model.RoleRoot || m.State == model.MemberLeaving || m.State == model.MemberDraining || !counts:
		case m.State == model.MemberImporting:
			return model.Node{}, false
		default:
			have++
		}
	}
	if have >= wanted {
		return model.Node{}, false
	}
	node, why := chooseOrigin(image, slices.Collect(maps.Values(known)), parts)
	return node, why == ""
}
