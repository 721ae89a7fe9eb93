package stack

import (
	"maps"
	"strings"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver"
)

// Actual is what stands on the node under our names, in one look.
type Actual struct {
	Devices  map[string]driver.Device      // device-mapper, by name
	Targets  map[string]driver.TargetState // by IQN
	Sessions []Session                     // to targets under our prefix
	Paths    map[string]Path               // the multipath devices, by image id
	Caches   map[string]string             // path of a cache that stands, by image id
	Pages    map[string]Page               // the page layer, by image id
	Looped   map[string]string             // what loop devices stand on without a page layer over them, by image id
	Files    map[string]driver.ImageFile   // on an origin, by image id

	// Ensured holds the fingerprint of what each target was last made from, by IQN. It
	// is empty after a start of the agent, so that every target is gone through once.
	Ensured map[string]string
	// Sectors of the devices of volumes that stand, by name.
	Sectors map[string]uint64
	// Thins are the thin devices that COW devices of volumes stand on, by the name of the COW device.
	Thins map[string]uint32
	// Copied holds the thin devices that this agent has seen made as a copy. A volume that is
	// reverted gets another one, so it is not the volume that is remembered.
	Copied map[uint32]bool
	// Gone holds ids of images and volumes whose data this agent has deleted.
	Gone map[string]bool
}

// Session is an iSCSI session with the number of its disk.
type Session struct {
	driver.Session
	Number string // major:minor of Device, "" while there is none
}

// healthy tells whether I/O can go through the session.
func (s Session) healthy() bool { return s.State == driver.SessionLoggedIn && s.Number != "" }

// Page is an image's page layer.
type Page struct {
	Path    string
	Backing string // the cache, or on an origin the file
	Bytes   uint64
}

// Path is the live table of an image's multipath device.
type Path struct {
	Number string // major:minor of the disk beneath
	Failed bool   // the kernel has taken the path out of use; I/O is queued
}

// live tells whether a device stands and can be used.
func (a Actual) live(name string) bool {
	d, ok := a.Devices[name]
	return ok && d.Live && !d.Suspended
}

// suspended tells whether a device stands and is held up.
func (a Actual) suspended(name string) bool {
	d, ok := a.Devices[name]
	return ok && d.Live && d.Suspended
}

// stands tells whether there is anything under the name, even half made.
func (a Actual) stands(name string) bool {
	_, ok := a.Devices[name]
	return ok
}

// onAnother tells whether a volume's device stands on another thin device than the volume has: it
// was reverted, or given another image, and no document in between was seen here.
func (a Actual) onAnother(d model.DesiredVolume) bool {
	thin, ok := a.Thins[driver.VolumeDevice(d.ID, driver.PartCow)]
	return ok && thin != d.ThinID
}

// without is what stands once a volume's devices and export have been taken down.
func (a Actual) without(volumeID, iqn string) Actual {
	a.Devices, a.Targets, a.Ensured = maps.Clone(a.Devices), maps.Clone(a.Targets), maps.Clone(a.Ensured)
	for _, part := range []string{driver.PartExport, driver.PartVolume, driver.PartBase, driver.PartCow} {
		delete(a.Devices, driver.VolumeDevice(volumeID, part))
	}
	delete(a.Targets, iqn)
	delete(a.Ensured, iqn)
	return a
}

// session returns the best session to a target: a healthy one before others.
func (a Actual) session(iqn, address string) (Session, bool) {
	var found Session
	ok := false
	for _, s := range a.Sessions {
		if s.IQN != iqn || s.Address != address {
			continue
		}
		if !ok || s.healthy() {
			found, ok = s, true
		}
	}
	return found, ok
}

// sessionsOf returns all sessions to any host's target of an image.
func (a Actual) sessionsOf(imageID string) []Session {
	var out []Session
	for _, s := range a.Sessions {
		if _, kind, id, ok := driver.ParseIQN(s.IQN); ok && kind == "image" && id == imageID {
			out = append(out, s)
		}
	}
	return out
}

// Parent returns the host of the session that an image's path goes through now.
func (a Actual) Parent(imageID string) (host string, healthy bool) {
	p, ok := a.Paths[imageID]
	if !ok {
		return "", false
	}
	for _, s := range a.sessionsOf(imageID) {
		if s.Number != "" && s.Number == p.Number {
			h, _, _, _ := driver.ParseIQN(s.IQN)
			return h, s.healthy() && !p.Failed
		}
	}
	return "", false
}

// IDs returns the images and volumes that anything stands for, besides files and
// deleted ones: what a document must mention, or it is unknown.
func (a Actual) IDs() (images, volumes map[string][]string) {
	images, volumes = map[string][]string{}, map[string][]string{}
	put := func(kind, id, what string) {
		if kind == "image" {
			images[id] = append(images[id], what)
		} else {
			volumes[id] = append(volumes[id], what)
		}
	}
	for name := range a.Devices {
		if kind, id, _, ok := driver.ParseDevice(name); ok {
			put(kind, id, "device "+name)
		}
	}
	for iqn := range a.Targets {
		if _, kind, id, ok := driver.ParseIQN(iqn); ok {
			put(kind, id, "target "+iqn)
		}
	}
	for _, s := range a.Sessions {
		if _, kind, id, ok := driver.ParseIQN(s.IQN); ok && kind == "image" {
			put(kind, id, "session "+s.IQN+" at "+s.Address)
		}
	}
	return images, volumes
}

// Fingerprint of a target's description, without its secrets in readable form.
func Fingerprint(t driver.Target) string {
	var b strings.Builder
	b.WriteString(t.Device + "|" + t.Portal + "|" + t.Serial)
	if t.ReadOnly {
		b.WriteString("|ro")
	}
	for _, a := range t.ACLs {
		b.WriteString("|" + a.Initiator + "=" + a.User + ":" + hash(a.Secret))
	}
	return b.String()
}
