package reconcile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vmthunder/vmthunder/db/model"
)

// Code says which difference a [Finding] is, in words that stay the same.
type Code string

// Codes. Those without a comment say it themselves.
const (
	CodeHost        Code = "other-host"    // the report is another node's
	CodeBehind      Code = "behind"        // an older document than the newest was taken
	CodeAhead       Code = "ahead"         // a newer one than there is
	CodeUnsettled   Code = "unsettled"     // still working on it
	CodeOtherPool   Code = "other-pool"    // the volumes' data is not in this pool
	CodePool        Code = "pool"          // it is not rw
	CodeUnknown     Code = "unknown-thing" // under our names, and no document mentions it
	CodeProblem     Code = "problem"       // in the node's own words
	CodeNoRow       Code = "no-row"        // it stands, and the document does not mention it
	CodeNotGone     Code = "not-gone"      // it should be
	CodeMissing     Code = "missing"       // it should stand
	CodeRole        Code = "role"          // relay for root, or the other way round
	CodeNotReady    Code = "not-ready"     // see State
	CodeCacheLost   Code = "cache-lost"    // it was made before
	CodeDataLost    Code = "data-lost"     // of a volume; it was made before
	CodeSize        Code = "size"          // of the device
	CodeFallback    Code = "fallback"      // it reads from that instead of its parent
	CodeParent      Code = "parent"        // it reads from somebody else
	CodeNotCopied   Code = "not-copied"    // its thin device is still to be made
	CodeStands      Code = "stands"        // a device that should not
	CodeNotExported Code = "not-exported"  // to nobody
	CodeExported    Code = "exported"      // though nobody may have it
	CodeIntruder    Code = "intruder"      // somebody is let in, or logged in, who should not
	CodeNotLetIn    Code = "not-let-in"    // somebody who should
)

// Finding is one difference between what should stand on a node and what it reports.
type Finding struct {
	Code  Code
	Kind  string            // node, image, volume
	ID    string            // of the image or volume; the host for a node
	State model.DeviceState // as reported; "" for a node
	Text  string
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
			r.say(CodeNoRow, "image", i.ID, i.State, "is there (%s), but no row says so", i.State)
		}
	}
	for _, v := range d.Volumes {
		volumes[v.ID] = true
		r.volume(v, o.Volume(v.ID))
	}
	for _, v := range o.Volumes {
		if !volumes[v.ID] && v.State != model.DeviceAbsent {
			r.say(CodeNoRow, "volume", v.ID, v.State, "is there (%s), but no row says so", v.State)
		}
	}
	return r.found
}

type report struct{ found []Finding }

func (r *report) say(code Code, kind, id string, state model.DeviceState, format string, args ...any) {
	r.found = append(r.found, Finding{code, kind, id, state, fmt.Sprintf(format, args...)})
}

func (r *report) node(d model.Desired, o model.Observed) {
	node := func(c Code, format string, args ...any) { r.say(c, "node", d.Host, "", format, args...) }
	if o.Host != d.Host {
		node(CodeHost, "the report is from %s", o.Host)
	}
	switch {
	case o.Generation < d.Generation:
		node(CodeBehind, "has taken generation %d of %d", o.Generation, d.Generation)
	case o.Generation > d.Generation:
		node(CodeAhead, "has taken generation %d, newer than the database's %d", o.Generation, d.Generation)
	case !o.Settled:
		node(CodeUnsettled, "is still working on generation %d", d.Generation)
	}
	if d.PoolUUID != "" && o.Pool.UUID != d.PoolUUID {
		node(CodeOtherPool, "has the pool %q instead of %s: its volumes' data is not there", o.Pool.UUID, d.PoolUUID)
	}
	if o.Pool.State != "rw" && (o.Compute || len(d.Volumes) > 0) {
		node(CodePool, "its pool is %q", o.Pool.State)
	}
	for _, u := range o.Unknown {
		node(CodeUnknown, "unknown thing under our names: %s", u)
	}
	for _, p := range o.Problems {
		node(CodeProblem, "%s", p)
	}
}

func (r *report) image(d model.DesiredImage, o model.ObservedImage) {
	image := func(c Code, format string, args ...any) { r.say(c, "image", d.ID, o.State, format, args...) }
	if d.State == model.Absent {
		if o.State != model.DeviceAbsent {
			image(CodeNotGone, "should be gone, is %s%s", o.State, because(o.Error))
		}
		return
	}
	if o.State == model.DeviceAbsent {
		image(CodeMissing, "is missing")
		return
	}
	if o.Role != d.Role {
		image(CodeRole, "is a %s, should be a %s", o.Role, d.Role)
	}
	if o.State != model.DeviceReady {
		image(CodeNotReady, "is %s%s", o.State, because(o.Error))
	}
	if d.CacheMade && !o.CacheMade {
		image(CodeCacheLost, "its cache was made before and is gone")
	}
	if d.DeviceBytes > 0 && o.DeviceBytes > 0 && d.DeviceBytes != o.DeviceBytes {
		image(CodeSize, "has %d bytes, should have %d", o.DeviceBytes, d.DeviceBytes)
	}
	if o.State != model.DeviceReady {
		return
	}
	switch {
	case d.Role == model.RoleRoot:
	case d.Parent == nil:
		image(CodeParent, "should have no parent yet, reads from %q", o.Parent)
	case o.Parent == d.Parent.Host:
	case slices.ContainsFunc(d.Alternates, func(p model.ParentPortal) bool { return p.Host == o.Parent }):
		image(CodeFallback, "reads from its fallback %s instead of %s", o.Parent, d.Parent.Host)
	default:
		image(CodeParent, "reads from the wrong parent %q instead of %s", o.Parent, d.Parent.Host)
	}
	r.exported("image", d.ID, o.State, d.Children, o.Exported, o.Children, false)
}

func (r *report) volume(d model.DesiredVolume, o model.ObservedVolume) {
	volume := func(c Code, format string, args ...any) { r.say(c, "volume", d.ID, o.State, format, args...) }
	switch {
	case d.State == model.Absent:
		if o.State != model.DeviceAbsent {
			volume(CodeNotGone, "should be gone, is %s%s", o.State, because(o.Error))
		}
		return
	case d.Materialized && !o.Materialized:
		volume(CodeDataLost, "its data was made before and is gone")
	}
	switch {
	case d.State == model.Inactive:
		if d.SourceThin != 0 && !d.Materialized && !o.Materialized {
			volume(CodeNotCopied, "is still to be copied from thin device %d%s", d.SourceThin, because(o.Error))
		}
		if o.State != model.DeviceAbsent && o.State != model.DeviceInactive {
			volume(CodeStands, "should have no device, is %s%s", o.State, because(o.Error))
		}
		return
	case o.State == model.DeviceAbsent, o.State == model.DeviceInactive:
		volume(CodeMissing, "is missing: it should have a device")
		return
	case o.State != model.DeviceReady:
		volume(CodeNotReady, "is %s%s", o.State, because(o.Error))
		return
	}
	if o.Bytes != 0 && o.Bytes != d.Bytes { // agents before this version do not tell
		volume(CodeSize, "has %d bytes, should have %d", o.Bytes, d.Bytes)
	}
	r.exported("volume", d.ID, o.State, d.Hosts, o.Exported, o.Hosts, true)
}

// exported compares who is let in or logged in with who may be. exact: the report lists
// who is let in, so everybody must be in it. The kernel's target has names of initiators in lower case, and
// they are compared without (RFC 3722).
func (r *report) exported(kind, id string, state model.DeviceState, want []model.Child, exported bool, have []string, exact bool) {
	switch {
	case len(want) > 0 && !exported:
		r.say(CodeNotExported, kind, id, state, "is not exported, but should be to %s", hosts(want))
		return
	case len(want) == 0 && exported:
		r.say(CodeExported, kind, id, state, "is exported, but should not be")
	}
	for _, i := range have {
		if !slices.ContainsFunc(want, func(c model.Child) bool { return strings.EqualFold(c.Initiator, i) }) {
			r.say(CodeIntruder, kind, id, state, "lets in %s, which it should not", i)
		}
	}
	for _, c := range want {
		if exact && !slices.ContainsFunc(have, func(i string) bool { return strings.EqualFold(c.Initiator, i) }) {
			r.say(CodeNotLetIn, kind, id, state, "does not let in %s (%s)", c.Host, c.Initiator)
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
