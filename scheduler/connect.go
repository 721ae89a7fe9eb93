package scheduler

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// Connect brings a volume to the connector's host. The home of a volume that has none
// yet becomes that host, if it has an agent. There the connection is of type local: the
// path of a device-mapper device; for any other host it is iscsi, to the home.
func (s *Service) Connect(ctx context.Context, id uuid.UUID, c model.Connector, raw []byte, mode string) (model.Attachment, error) {
	if c.Host == "" {
		return model.Attachment{}, fmt.Errorf("%w: the connector names no host", model.ErrInvalid)
	}
	var plan connection
	err := s.whenLeft(ctx, func() (err error) {
		plan, err = s.connectRows(ctx, id, c, raw, mode)
		return err
	})
	if err != nil {
		s.refused(ctx, id, err)
		return model.Attachment{}, err
	}
	s.tell(plan.tell...)
	info, err := s.bring(ctx, plan, c, mode)
	if err != nil {
		if gone := s.disconnectFailed(ctx, id, plan.home); gone != nil {
			return model.Attachment{}, gone
		}
		return model.Attachment{}, fmt.Errorf("volume %s on %s: %w", plan.volume.ID, plan.home, err)
	}
	var a model.Attachment
	err = s.store.Tx(ctx, func(t Tx) error {
		att, v, err := t.LockAttachment(id)
		if err != nil {
			return err
		}
		if att.Status != model.AttachAttaching || v.Status == model.VolumeDeleting {
			return fmt.Errorf("%w: attachment %s is %s", model.ErrConflict, id, att.Status)
		}
		now := s.opt.Now().UTC() // so Cinder, long before Nova says that the attachment is complete
		att.ConnectionInfo, att.AttachedAt = info, &now
		a = att
		return t.UpdateAttachment(att)
	})
	return a, err
}

// whenLeft does something again while its error is that a node is just leaving a tree.
func (s *Service) whenLeft(ctx context.Context, do func() error) error {
	err := do()
	for end := s.opt.Now().Add(leavingWait); errors.Is(err, errLeaving) && s.opt.Now().Before(end); err = do() {
		select {
		case <-time.After(leavingWait / 50):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

// leavingWait is how long an attachment or a move waits for a node to have left its image's tree,
// which it does in a fraction of a second if it answers.
const leavingWait = 10 * time.Second

// errLeaving: the node must have left the tree before it can join it again.
var errLeaving = errors.New("just leaving")

// connection is what connectRows decided.
type connection struct {
	volume model.Volume
	home   string
	local  bool
	secret string
	tell   []string // other hosts with a new document
}

// connectRows writes the decision: the home, its place in the image's tree, and the
// attachment as attaching. One transaction, no device touched.
func (s *Service) connectRows(ctx context.Context, id uuid.UUID, c model.Connector, raw []byte, mode string) (connection, error) {
	_, seen, err := s.store.Attachment(ctx, id)
	if err != nil {
		return connection{}, err
	}
	var out connection
	err = s.store.Tx(ctx, func(t Tx) error {
		out = connection{}
		var together *string // where the volume's group lives
		if seen.GroupID != nil && seen.Home == nil {
			if together, err = t.GroupHome(*seen.GroupID); err != nil {
				return err
			}
		}
		var image model.Image
		if seen.ImageID != nil {
			if image, err = t.LockImage(*seen.ImageID); err != nil {
				return err
			}
			if image.Status != model.ImageActive {
				return fmt.Errorf("%w: image %s is %s", model.ErrConflict, image.ID, image.Status)
			}
		}
		att, v, err := t.LockAttachment(id)
		if err != nil {
			return err
		}
		switch {
		case v.Status == model.VolumeDeleting || strings.HasPrefix(string(v.Status), "error"):
			return fmt.Errorf("%w: volume %s is %s", model.ErrConflict, v.ID, v.Status)
		case !slices.Contains([]model.AttachStatus{model.AttachReserved, model.AttachAttaching, model.AttachAttached, model.AttachErrorAttaching}, att.Status):
			return fmt.Errorf("%w: attachment %s is %s", model.ErrConflict, id, att.Status)
		}
		if v.Home == nil && !sameID(v.GroupID, seen.GroupID) {
			return fmt.Errorf("%w: volume %s has come to a group or left it; try again", model.ErrConflict, v.ID)
		}
		home, err := s.home(t, v, together, c.Host)
		if err != nil {
			return err
		}
		if err := settle(t, v, home.Host); err != nil {
			return err
		}
		bump := []string{home.Host}
		if seen.ImageID != nil {
			changed, err := s.join(t, image, []model.Node{home}, false)
			if err != nil {
				return err
			}
			bump = append(bump, changed...)
		}
		out.local = c.Host == home.Host
		if !out.local {
			if c.Initiator == "" {
				return fmt.Errorf("%w: host %s is not the volume's home (%s) and its connector names no iSCSI initiator", model.ErrInvalid, c.Host, home.Host)
			}
			att.ChapSecret = s.secret(v, att, c.Host)
			out.secret = att.ChapSecret
		}
		att.Status, att.Connector, att.AttachedHost = model.AttachAttaching, raw, &c.Host
		if c.Mountpoint != "" {
			att.Mountpoint = &c.Mountpoint
		}
		if mode != "" {
			att.AttachMode = &mode
		}
		if err := t.UpdateAttachment(att); err != nil {
			return err
		}
		if v.Status == model.VolumeReserved || v.Status == model.VolumeAvailable {
			if err := t.SetVolumeStatus(v.ID, model.VolumeAttaching, model.AttachAttaching, nil); err != nil {
				return err
			}
		}
		out.volume, out.home, out.tell = v, home.Host, bump[1:]
		return t.Bump(bump...)
	})
	return out, err
}

// secret is the CHAP secret of an attachment. A target knows one for each initiator, so all
// attachments of a volume at one host share it.
func (s *Service) secret(v model.Volume, att model.Attachment, host string) string {
	for _, a := range append([]model.Attachment{att}, v.Attachments...) {
		if a.ChapSecret != "" && a.AttachedHost != nil && *a.AttachedHost == host {
			return a.ChapSecret
		}
	}
	return s.opt.NewSecret()
}

func sameID(a, b *uuid.UUID) bool { return a == b || a != nil && b != nil && *a == *b }

// home is where the volume lives or will live: with its group, if that has a home, else on
// the host that asks, if the volume's type is for that.
func (s *Service) home(t Tx, v model.Volume, together *string, asking string) (model.Node, error) {
	return s.homeOf(t, v, together, asking, func(model.Node) bool { return true })
}

// homeOf is home with a node that may be chosen, if one has to be. It differs from the home that the
// volume has if nothing was ever written to that, and its node is dead.
func (s *Service) homeOf(t Tx, v model.Volume, together *string, asking string, may func(model.Node) bool) (model.Node, error) {
	want := asking
	switch {
	case v.Home != nil:
		want = *v.Home
	case together != nil:
		want = *together
	}
	found, err := t.NodesOf(want, asking, deref(v.Placed))
	if err != nil {
		return model.Node{}, err
	}
	known := nodeMap(found)
	n, ok := known[want]
	if v.Home != nil {
		switch {
		case ok && n.Alive:
			return n, nil
		case !abandonable(v):
			return model.Node{}, fmt.Errorf("node %s, which holds volume %s, does not answer; start its agent", *v.Home, v.ID)
		}
		n, ok = known[asking]
	}
	wants, err := t.Wants(v)
	if err != nil {
		return model.Node{}, err
	}
	lack := func(n model.Node) string { return lacks(s.opt.Backend, &n, wants...) }
	switch {
	case !ok || !n.Compute && together == nil:
	case lack(n) != "" && together != nil:
		return n, noRoom{fmt.Errorf("%w: node %s, where the volumes of its group are, is not as the type of volume %s wants it: %s", model.ErrInvalid, n.Host, v.ID, lack(n))}
	case lack(n) != "", n.Draining && together == nil:
	case !n.Alive:
		return n, fmt.Errorf("the agent on %s does not answer; start it", n.Host)
	default:
		if why := full(&n, &v, s.opt.Backend.ReservedPercentage); why != "" {
			return n, noRoom{fmt.Errorf("%w: %s", model.ErrInvalid, why)}
		}
		return n, nil
	}
	// The asking host has no agent, drains, or is not for volumes of this type.
	fits := func(n model.Node) bool {
		return may(n) && n.Alive && n.Enabled && n.Compute && n.AvailabilityZone == v.AvailabilityZone && lack(n) == ""
	}
	if n, ok := known[deref(v.Placed)]; ok && fits(n) && !n.Frozen && full(&n, &v, s.opt.Backend.ReservedPercentage) == "" {
		return n, nil
	}
	nodes, err := t.Nodes()
	if err != nil {
		return model.Node{}, err
	}
	nodes = slices.DeleteFunc(nodes, func(n model.Node) bool { return !fits(n) })
	best := mostRoom(nodes, &v, s.opt.Backend.ReservedPercentage)
	if best == nil {
		why := fmt.Sprintf("no node in availability zone %s is alive with room for volume %s", v.AvailabilityZone, v.ID)
		if len(wants) > 0 {
			why += ", as its type wants it"
		}
		return model.Node{}, noRoom{errors.New(why)}
	}
	return *best, nil
}

// abandonable tells whether a volume may leave a home that is dead: nothing was ever written to it, and
// nobody has it from there.
func abandonable(v model.Volume) bool {
	return v.Pristine() && v.GroupID == nil && !slices.ContainsFunc(v.Attachments, func(a model.Attachment) bool { return len(a.Connector) > 0 })
}

// settle gives a volume that is locked the home that homeOf has found.
func settle(t Tx, v model.Volume, host string) error {
	if v.Home != nil && *v.Home == host {
		return nil
	}
	if v.Home != nil {
		if err := t.Unhome(v); err != nil {
			return err
		}
	}
	_, err := t.SetHome(v.ID, host)
	return err
}

// bring has the home make the device and returns the connection info, flat.
func (s *Service) bring(ctx context.Context, p connection, c model.Connector, mode string) (model.JSON, error) {
	ctx, cancel := context.WithTimeout(ctx, s.opt.AttachTimeout)
	defer cancel()
	doc, err := s.document(ctx, p.home)
	if err != nil {
		return nil, err
	}
	id := p.volume.ID.String()
	seen, err := s.nodes.Apply(ctx, p.home, doc, []string{id})
	if err != nil && s.nodes.Healthy(ctx) == nil {
		// Not the bus but this node: trying again elsewhere does not help, knowing why does.
		return nil, nodeError{err}
	}
	if err != nil {
		return nil, err
	}
	v := seen.Volume(id)
	if v.State != model.DeviceReady {
		why := v.Error
		if i := seen.Image(imageOf(p.volume)); v.Error == "" || strings.Contains(v.Error, "can't be read here yet") {
			why = strings.Trim(v.Error+"; "+i.Error, "; ")
		}
		return nil, fmt.Errorf("the device is %s: %s", v.State, why)
	}
	// At once: a volume whose COW device was made is known to be made before a VM writes into it.
	if _, err := s.saw(ctx, seen); err != nil {
		return nil, err
	}
	var options model.AttachOptions
	if p.volume.VolumeTypeID != nil {
		if options, err = s.store.AttachOptions(ctx, *p.volume.VolumeTypeID); err != nil {
			return nil, err
		}
	}
	access := "rw"
	if mode == "ro" || p.volume.ReadOnly {
		access = "ro"
	}
	info := map[string]any{
		"access_mode": access, "qos_specs": options.QoS.FrontEnd(p.volume.SizeGiB), "encrypted": false, "cacheable": options.Cacheable,
		"attachment_id": nil, "volume_id": id,
	}
	if p.local {
		info["driver_volume_type"] = "local"
		info["device_path"] = v.Device
	} else {
		if !slices.Contains(v.Hosts, c.Initiator) {
			return nil, fmt.Errorf("the target does not let %s in yet", c.Initiator)
		}
		info["driver_volume_type"] = "iscsi"
		info["target_discovered"] = false
		info["target_portal"] = seen.Address
		info["target_iqn"] = model.VolumeIQN(p.home, id)
		info["target_lun"] = v.LUN
		info["auth_method"] = "CHAP"
		info["auth_username"] = model.VolumeChapUser(c.Host, id)
		info["auth_password"] = p.secret
		info["discard"] = true
	}
	return json.Marshal(info)
}

// nodeError is the failure of one node, which is not that of the service: it keeps the
// words and drops the meaning of what it wraps.
type nodeError struct{ error }

func imageOf(v model.Volume) string {
	if v.ImageID == nil {
		return ""
	}
	return v.ImageID.String()
}

// disconnectFailed takes back a connection that did not come about. If somebody has
// detached it meanwhile, that is the error that is returned, and nothing is touched.
func (s *Service) disconnectFailed(ctx context.Context, id uuid.UUID, home string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	var detached error
	err := s.store.Tx(ctx, func(t Tx) error {
		detached = nil
		att, v, err := t.LockAttachment(id)
		if errors.Is(err, model.ErrNotFound) {
			detached = err
			return nil
		}
		if err != nil {
			return err
		}
		if att.Status != model.AttachAttaching {
			detached = fmt.Errorf("%w: attachment %s is %s", model.ErrConflict, id, att.Status)
			return nil
		}
		att.Status, att.Connector, att.ConnectionInfo, att.ChapSecret = model.AttachErrorAttaching, nil, nil, ""
		if err := t.UpdateAttachment(att); err != nil {
			return err
		}
		if v.Status == model.VolumeAttaching {
			if err := t.SetVolumeStatus(v.ID, model.VolumeReserved, model.AttachReserved, nil); err != nil {
				return err
			}
		}
		return t.Bump(home)
	})
	if err != nil {
		s.log.WithError(err).WithField("attachment", id).Error("a failed attachment can't be taken back; delete it")
		return nil
	}
	s.tell(home)
	return detached
}
