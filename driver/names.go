package driver

import (
	"strings"

	"github.com/vmthunder/vmthunder/db/model"
)

// Names of everything that an agent makes carry the id of the row they stand
// for, so that any device, target or session can be traced to it.
//
// Prefix begins every device-mapper name, IQNPrefix every target.
const (
	Prefix    = "vmthunder-"
	IQNPrefix = model.IQNPrefix
)

// Parts of an image's stack and of a volume's, the last part of a device's name.
const (
	PartPath   = "path"   // multipath to the parent
	PartCache  = "cache"  // dm-cache or flashcache device
	PartBack   = "back"   // bcache's backing device: superblock + path
	PartPage   = "page"   // loop devices over the cache or the file, as one
	PartRelay  = "relay"  // exported to children
	PartCow    = "cow"    // thin device
	PartBase   = "base"   // page + zero
	PartVolume = "volume" // what a VM gets
	PartExport = "export" // exported to another host
)

// ImageDevice names a part of an image's stack: vmthunder-image-ID-PART.
func ImageDevice(imageID, part string) string { return Prefix + "image-" + imageID + "-" + part }

// VolumeDevice names a part of a volume's stack: vmthunder-volume-ID for the volume
// itself, vmthunder-volume-ID-PART for the rest.
func VolumeDevice(volumeID, part string) string {
	if part == PartVolume {
		return Prefix + "volume-" + volumeID
	}
	return Prefix + "volume-" + volumeID + "-" + part
}

// DeviceUUID is the device-mapper UUID that goes with a name.
func DeviceUUID(name string) string { return "VMTHUNDER-" + strings.TrimPrefix(name, Prefix) }

const uuidLen = 36

// ParseDevice takes a device-mapper name apart: kind is image or volume. ok is
// false for names that are not of that form (the pool's own devices, others').
func ParseDevice(name string) (kind, id, part string, ok bool) {
	rest, found := strings.CutPrefix(name, Prefix)
	if !found {
		return "", "", "", false
	}
	kind, rest, found = strings.Cut(rest, "-")
	if !found || (kind != "image" && kind != "volume") || len(rest) < uuidLen {
		return "", "", "", false
	}
	id, part = rest[:uuidLen], strings.TrimPrefix(rest[uuidLen:], "-")
	if part == "" {
		part = PartVolume
	}
	return kind, id, part, true
}

// ImageIQN names the target by which host serves an image to its children.
func ImageIQN(host, imageID string) string { return model.ImageIQN(host, imageID) }

// VolumeIQN names the target by which host serves a volume to other hosts.
func VolumeIQN(host, volumeID string) string {
	return model.VolumeIQN(host, volumeID)
}

// ParseIQN takes a target's name apart.
func ParseIQN(iqn string) (host, kind, id string, ok bool) {
	rest, found := strings.CutPrefix(iqn, IQNPrefix)
	if !found {
		return "", "", "", false
	}
	host, rest, found = strings.Cut(rest, ":")
	if !found {
		return "", "", "", false
	}
	kind, id, found = strings.Cut(rest, "-")
	return host, kind, id, found && (kind == "image" || kind == "volume") && len(id) == uuidLen
}
