// Package reconcile computes what should stand on a node from the database, and what
// of it does not. Both are pure: the same input gives the same bytes.
package reconcile

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// Options of all documents.
type Options struct {
	MaxImageBytes int64 // largest virtual size that a root may serve
}

// Desired is the whole document of the state's node. Nothing becomes Absent in it but what
// its row says is deleting or leaving.
func Desired(s model.NodeState, o Options) model.Desired {
	d := model.Desired{
		Schema: model.DesiredSchema, Host: s.Node.Host, Generation: s.Node.Generation, PoolUUID: s.Node.PoolUUID,
		Images: []model.DesiredImage{}, Volumes: []model.DesiredVolume{},
	}
	for i := range s.Members {
		if m := &s.Members[i]; m.Host == s.Node.Host {
			d.Images = append(d.Images, desiredImage(s, m, o))
		}
	}
	for i := range s.Volumes {
		if v := &s.Volumes[i]; v.Home != nil && *v.Home == s.Node.Host {
			d.Volumes = append(d.Volumes, desiredVolume(s.Node.Host, v))
		}
	}
	for i := range s.Snapshots {
		d.Volumes = append(d.Volumes, desiredSnapshot(&s.Snapshots[i]))
	}
	for i := range s.Tasks {
		d.Tasks = append(d.Tasks, desiredTask(&s.Tasks[i]))
		switch s.Tasks[i].Access {
		case model.TaskCopy, model.TaskFill:
			d.Volumes = append(d.Volumes, desiredCopy(&s.Tasks[i]))
		case model.TaskVolume:
			bringUp(d.Volumes, &s.Tasks[i])
		case model.TaskNone:
		}
	}
	keepSources(d.Volumes)
	for _, t := range s.Dropped {
		d.Volumes = append(d.Volumes, model.DesiredVolume{ID: t.ID.String(), State: model.Absent, ThinID: thin(&t.ThinID), Materialized: true})
	}
	slices.SortFunc(d.Images, func(a, b model.DesiredImage) int { return strings.Compare(a.ID, b.ID) })
	slices.SortFunc(d.Volumes, func(a, b model.DesiredVolume) int { return strings.Compare(a.ID, b.ID) })
	slices.SortFunc(d.Tasks, func(a, b model.DesiredTask) int { return strings.Compare(a.ID, b.ID) })
	return d
}

func desiredImage(s model.NodeState, m *model.Member, o Options) model.DesiredImage {
	d := model.DesiredImage{
		ID: m.ImageID.String(), Role: m.Role, State: model.Present,
		ThinBase: uint32(m.ThinBase), CacheMade: m.CacheMade, //nolint:gosec // G115: the database hands out 24 bits, as many as dm-thin has
	}
	img := s.Images[m.ImageID]
	d.DeviceBytes = img.DeviceBytes // what is taken down has a size too
	if m.State == model.MemberLeaving {
		d.State = model.Absent
		return d
	}
	d.Children = children(s, m.ImageID)
	if m.Role == model.RoleRoot {
		d.Source = source(img, o)
		return d
	}
	if m.Parent != nil {
		if p, ok := portal(s.Parents, *m.Parent, m); ok {
			d.Parent = &p
		}
	}
	if m.Fallback != nil {
		if p, ok := portal(s.Fallbacks, *m.Fallback, m); ok {
			d.Alternates = []model.ParentPortal{p}
		}
	}
	return d
}

// source is sent after the import too: a root that has lost its file imports it again.
func source(img model.Image, o Options) *model.ImageSource {
	size := img.SizeBytes
	if size <= 0 {
		size = -1
	}
	return &model.ImageSource{
		DiskFormat: img.DiskFormat, SizeBytes: size, HashAlgo: img.HashAlgo, HashValue: img.HashValue,
		Checksum: img.Checksum, MaxBytes: o.MaxImageBytes,
	}
}

// portal is where m logs in at host. A node that has never said where it listens is none.
func portal(nodes map[uuid.UUID]model.Node, host string, m *model.Member) (model.ParentPortal, bool) {
	n, ok := nodes[m.ImageID]
	if !ok || n.Host != host || n.Address == "" {
		return model.ParentPortal{}, false
	}
	id := m.ImageID.String()
	return model.ParentPortal{
		Host: host, Address: n.Address, IQN: model.ImageIQN(host, id),
		User: model.ImageChapUser(m.Host, id), Secret: m.Secret,
	}, true
}

// children may log in: those whose parent this is, those who may come to it when their
// parent is gone, and those who still read from it though they have another by now.
func children(s model.NodeState, image uuid.UUID) []model.Child {
	var out []model.Child
	for _, c := range s.Children[image] {
		host := s.Node.Host
		is := func(h *string) bool { return h != nil && *h == host }
		staying := c.Member.State != model.MemberLeaving
		if c.Node.Initiator == "" || c.Member.Host == host ||
			!is(c.Member.Parent) && (!staying || !is(c.Member.Fallback)) && c.Member.ObservedParent != host {
			continue
		}
		out = append(out, model.Child{
			Host: c.Member.Host, Initiator: c.Node.Initiator,
			User: model.ImageChapUser(c.Member.Host, image.String()), Secret: c.Member.Secret,
		})
	}
	return unique(out)
}

// unique sorts by initiator and leaves one each: a target knows one credential per initiator, whose name
// is the same in upper and lower case (RFC 3722).
func unique(cs []model.Child) []model.Child {
	name := func(c model.Child) string { return strings.ToLower(c.Initiator) }
	slices.SortStableFunc(cs, func(a, b model.Child) int { return strings.Compare(name(a), name(b)) })
	return slices.CompactFunc(cs, func(a, b model.Child) bool { return name(a) == name(b) })
}

func desiredVolume(home string, v *model.Volume) model.DesiredVolume {
	d := model.DesiredVolume{ID: v.ID.String(), State: model.Inactive, Bytes: v.Bytes(), Materialized: v.Materialized}
	if v.ImageID != nil {
		d.ImageID = v.ImageID.String()
	}
	d.ThinID, d.SourceThin = thin(v.ThinID), thin(v.SourceThin)
	together(&d, v.Together, v.Status == model.VolumeError)
	if v.Status == model.VolumeDeleting {
		d.State = model.Absent
		return d
	}
	// Who has it longest first: of two attachments at one initiator the first one's
	// credential holds.
	atts := slices.Clone(v.Attachments)
	slices.SortFunc(atts, func(a, b model.Attachment) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID.String(), b.ID.String()))
	})
	for _, a := range atts {
		c, ok := reaches(a)
		if !ok {
			continue
		}
		d.State = model.Present
		if c.Host != home && c.Initiator != "" && a.ChapSecret != "" {
			d.Hosts = append(d.Hosts, model.Child{
				Host: c.Host, Initiator: c.Initiator, User: model.VolumeChapUser(c.Host, v.ID.String()), Secret: a.ChapSecret,
			})
		}
	}
	d.Hosts = unique(d.Hosts)
	return d
}

// thin is the number of a thin device; 0 is none.
func thin(n *int64) uint32 {
	if n == nil {
		return 0
	}
	return uint32(*n) //nolint:gosec // G115: the database hands out 24 bits, as many as dm-thin has
}

func desiredSnapshot(sn *model.Snapshot) model.DesiredVolume {
	d := model.DesiredVolume{
		ID: sn.ID.String(), State: model.Inactive, Bytes: sn.Bytes(), Materialized: sn.Materialized,
		ThinID: thin(sn.ThinID), SourceThin: thin(sn.SourceThin),
	}
	if sn.ImageID != nil {
		d.ImageID = sn.ImageID.String()
	}
	together(&d, sn.Together, sn.Status == model.SnapshotError)
	if sn.Status == model.SnapshotDeleting {
		d.State = model.Absent
	}
	return d
}

// desiredTask is what the node is to do, or to remove what is left of.
func desiredTask(k *model.Task) model.DesiredTask {
	d := model.DesiredTask{ID: k.ID.String(), Kind: k.Kind, State: model.Present, Volume: k.ID.String(), Bytes: k.Bytes, Args: k.Args}
	switch k.Access {
	case model.TaskCopy, model.TaskFill: // which has the task's id
	case model.TaskVolume:
		d.Volume = k.VolumeID.String()
	case model.TaskNone:
		d.Volume = ""
	}
	if k.Ended() {
		d.State = model.Absent
		return d
	}
	var args model.MigrateArgs
	if k.Kind == model.TaskMigrate && json.Unmarshal(k.Args, &args) == nil {
		served := model.ServeID(k.ID).String()
		d.Source = &model.ParentPortal{
			Host: args.Host, Address: args.Address, IQN: model.VolumeIQN(args.Host, served),
			User: model.VolumeChapUser(k.Host, served), Secret: k.Secret,
		}
	}
	return d
}

// desiredCopy is the frozen copy that a task reads, or the device that it fills, for as long as
// that runs.
func desiredCopy(k *model.Task) model.DesiredVolume {
	d := model.DesiredVolume{
		ID: k.ID.String(), State: model.Present, Bytes: k.Bytes, Frozen: k.Access == model.TaskCopy,
		ThinID: thin(k.ThinID), SourceThin: thin(k.SourceThin), Materialized: k.Materialized,
	}
	if k.ImageID != nil {
		d.ImageID = k.ImageID.String()
	}
	if k.Ended() {
		d.State = model.Absent
		return d
	}
	var args model.ServeArgs
	if k.Kind == model.TaskServe && json.Unmarshal(k.Args, &args) == nil {
		d.Hosts = []model.Child{{
			Host: args.Host, Initiator: args.Initiator, User: model.VolumeChapUser(args.Host, d.ID), Secret: k.Secret,
		}}
	}
	return d
}

// bringUp has the device of a volume stand that a task works on itself.
func bringUp(vs []model.DesiredVolume, k *model.Task) {
	for i := range vs {
		if vs[i].ID == k.VolumeID.String() && vs[i].State == model.Inactive && !k.Ended() {
			vs[i].State = model.Present
		}
	}
}

// together names the moment of a copy. One that has failed is not asked for again: it would
// be of another moment than those it belongs to.
func together(d *model.DesiredVolume, with *uuid.UUID, failed bool) {
	switch {
	case with == nil || d.Materialized:
	case failed:
		d.SourceThin = 0
	default:
		d.Together = with.String()
	}
}

// keepSources holds up the end of what something is still to be copied from.
func keepSources(vs []model.DesiredVolume) {
	wanted := map[uint32]bool{}
	for _, v := range vs {
		if v.State != model.Absent && v.SourceThin != 0 && !v.Materialized {
			wanted[v.SourceThin] = true
		}
	}
	for i := range vs {
		if vs[i].State == model.Absent && wanted[vs[i].ThinID] {
			vs[i].State = model.Inactive
		}
	}
}

// reaches tells whether somebody has or is getting the volume by an attachment, and who.
func reaches(a model.Attachment) (model.Connector, bool) {
	switch a.Status {
	case model.AttachAttaching, model.AttachAttached, model.AttachDetaching:
	default:
		return model.Connector{}, false
	}
	var c model.Connector
	if len(a.Connector) == 0 || json.Unmarshal(a.Connector, &c) != nil || c.Host == "" {
		return model.Connector{}, false
	}
	return c, true
}
