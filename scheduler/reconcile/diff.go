package reconcile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vmthunder/vmthunder/db/model"
)

// Finding is one difference between what should stand on a node and what it reports.
type Finding struct {
	Kind string // node, image, volume
	ID   string // of the image or volume; the host for a node
	Text string
}

// String is the finding as one line.
func (f Finding) String() string { return f.Kind + " " + f.ID + ": " + f.Text }

// Diff tells in words what a node's report lacks or has too much of against its
// document: the node first, then images, then volumes, by id.
func Diff(d model.Desired, o model.Observed) []Finding {
	r := &report{}
	r.node(d, o)
	o.Images, o.Volumes = slices.Clone(o.Images), slices.Clone(o.Volumes) // the caller's order stays
	slices.SortFunc(o.Images, func(a, b model.ObservedImage) int { return strings.Compare(a.ID, b.ID) })
	slices.SortFunc(o.Volumes, func(a, b model.ObservedVolume) int { return strings.Compare(a.ID, b.ID) })
	images, volumes := map[string]bool{}, map[string]bool{}
	for _, i := range d.Images {
		images[i.ID] = true
		r.image(i, o.Image(i.ID))
	}
	for _, i := range o.Images {
		if !images[i.ID] && i.State != model.DeviceAbsent {
			r.say("image", i.ID, "is there (%s), but no row says so", i.State)
		}
	}
	for _, v := range d.Volumes {
		volumes[v.ID] = true
		r.volume(v, o.Volume(v.ID))
	}
	for _, v := range o.Volumes {
		if !volumes[v.ID] && v.State != model.DeviceAbsent {
			r.say("volume", v.ID, "is there (%s), but no row says so", v.State)
		}
	}
	return r.found
}

type report struct{ found []Finding }

func (r *report) say(kind, id, format string, args ...any) {
	r.found = append(r.found, Finding{kind, id, fmt.Sprintf(format, args...)})
}

func (r *report) node(d model.Desired, o model.Observed) {
	node := func(format string, args ...any) { r.say("node", d.Host, format, args...) }
	if o.Host != d.Host {
		node("the report is from %s", o.Host)
	}
	switch {
	case o.Generation < d.Generation:
		node("has taken generation %d of %d", o.Generation, d.Generation)
	case o.Generation > d.Generation:
		node("has taken generation %d, newer than the database's %d", o.Generation, d.Generation)
	case !o.Settled:
		node("is still working on generation %d", d.Generation)
	}
	if d.PoolUUID != "" && o.Pool.UUID != d.PoolUUID {
		node("has the pool %q instead of %s: its volumes' data is not there", o.Pool.UUID, d.PoolUUID)
	}
	if o.Pool.State != "rw" && (o.Compute || len(d.Volumes) > 0) {
		node("its pool is %q", o.Pool.State)
	}
	for _, u := range o.Unknown {
		node("unknown thing under our names: %s", u)
	}
	for _, p := range o.Problems {
		node("%s", p)
	}
}

func (r *report) image(d model.DesiredImage, o model.ObservedImage) {
	image := func(format string, args ...any) { r.say("image", d.ID, format, args...) }
	if d.State == model.Absent {
		if o.State != model.DeviceAbsent {
			image("should be gone, is %s%s", o.State, because(o.Error))
		}
		return
	}
	if o.State == model.DeviceAbsent {
		image("is missing")
		return
	}
	if o.Role != d.Role {
		image("is a %s, should be a %s", o.Role, d.Role)
	}
	if o.State != model.DeviceReady {
		image("is %s%s", o.State, because(o.Error))
	}
	if d.CacheMade && !o.CacheMade {
		image("its cache was made before and is gone")
	}
	if d.DeviceBytes > 0 && o.DeviceBytes > 0 && d.DeviceBytes != o.DeviceBytes {
		image("has %d bytes, should have %d", o.DeviceBytes, d.DeviceBytes)
	}
	if o.State != model.DeviceReady {
		return
	}
	switch {
	case d.Role == model.RoleRoot:
	case d.Parent == nil:
		image("should have no parent yet, reads from %q", o.Parent)
	case o.Parent == d.Parent.Host:
	case slices.ContainsFunc(d.Alternates, func(p model.ParentPortal) bool { return p.Host == o.Parent }):
		image("reads from its fallback %s instead of %s", o.Parent, d.Parent.Host)
	default:
		image("reads from the wrong parent %q instead of %s", o.Parent, d.Parent.Host)
	}
	r.exported("image", d.ID, d.Children, o.Exported, o.Children, false)
}

func (r *report) volume(d model.DesiredVolume, o model.ObservedVolume) {
	volume := func(format string, args ...any) { r.say("volume", d.ID, format, args...) }
	switch {
	case d.State == model.Absent:
		if o.State != model.DeviceAbsent {
			volume("should be gone, is %s%s", o.State, because(o.Error))
		}
		return
	case d.Materialized && !o.Materialized:
		volume("its data was made before and is gone")
	}
	switch {
	case d.State == model.Inactive:
		if d.SourceThin != 0 && !d.Materialized && !o.Materialized {
			volume("is still to be copied from thin device %d%s", d.SourceThin, because(o.Error))
		}
		if o.State != model.DeviceAbsent && o.State != model.DeviceInactive {
			volume("should have no device, is %s%s", o.State, because(o.Error))
		}
		return
	case o.State == model.DeviceAbsent, o.State == model.DeviceInactive:
		volume("is missing: it should have a device")
		return
	case o.State != model.DeviceReady:
		volume("is %s%s", o.State, because(o.Error))
		return
	}
	if o.Bytes != 0 && o.Bytes != d.Bytes { // agents before this version do not tell
		volume("has %d bytes, should have %d", o.Bytes, d.Bytes)
	}
	r.exported("volume", d.ID, d.Hosts, o.Exported, o.Hosts, true)
}

// exported compares who is let in or logged in with who may be. exact: the report lists
// who is let in, so everybody must be in it.
func (r *report) exported(kind, id string, want []model.Child, exported bool, have []string, exact bool) {
	switch {
	case len(want) > 0 && !exported:
		r.say(kind, id, "is not exported, but should be to %s", hosts(want))
		return
	case len(want) == 0 && exported:
		r.say(kind, id, "is exported, but should not be")
	}
	for _, i := range have {
		if !slices.ContainsFunc(want, func(c model.Child) bool { return c.Initiator == i }) {
			r.say(kind, id, "lets in %s, which it should not", i)
		}
	}
	for _, c := range want {
		if exact && !slices.Contains(have, c.Initiator) {
			r.say(kind, id, "does not let in %s (%s)", c.Host, c.Initiator)
		}
	}
}

func hosts(cs []model.Child) string {
	names := make([]string, len(cs))
	for i, c := range cs {
		names[i] = c.Host
	}
	return strings.Join(names, ", ")
}

func because(err string) string {
	if err == "" {
		return ""
	}
	return ": " + err
}
