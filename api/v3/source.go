package v3

import (
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/db/model"
)

// source is what a volume is made from: a snapshot, another volume or a backup.
type source struct {
	snapshot, volume, backup *uuid.UUID // one of them
	size                     int        // GiB
	kind                     *uuid.UUID // type
	zone                     string
	bootable                 bool
	imageMetadata            model.StringMap
}

// sourceOf finds the one source that a request names; nil is none.
func (a *API) sourceOf(c *call, refs map[string]string) (*source, error) {
	var given []string
	for _, k := range []struct{ key, name string }{
		{"snapshot_id", "snapshot"}, {"image", "imageRef"}, {"source_volid", "source_volume"}, {"backup_id", "backup"},
	} {
		if refs[k.key] != "" {
			given = append(given, k.name)
		}
	}
	if len(given) > 1 {
		return nil, fault.InvalidInput("May specify only one of %s", strings.Join([]string{"snapshot", "imageRef", "source_volume", "backup"}, ", "))
	}
	switch {
	case refs["snapshot_id"] != "":
		return a.sourceSnapshot(c, refs["snapshot_id"])
	case refs["source_volid"] != "":
		return a.sourceVolume(c, refs["source_volid"])
	case refs["backup_id"] != "": // at every version, as in Cinder: a blank volume instead would be worse
		return a.sourceBackup(c, refs["backup_id"])
	}
	return nil, nil //nolint:nilnil // from an image, or blank
}

const (
	snapshotNotReady = "Invalid snapshot: Originating snapshot status must be one of 'available' values"
	sourceNotReady   = "Invalid volume: Originating source volume status must be one of 'in-use, available' values"
)

func (a *API) sourceSnapshot(c *call, ref string) (*source, error) {
	sn, err := a.snapshotByID(c, ref, "volume:get_snapshot")
	if err != nil {
		return nil, err
	}
	if sn.Status != model.SnapshotAvailable {
		return nil, fault.BadRequest(snapshotNotReady)
	}
	v, err := a.Store.Volume(c.ctx(), sn.VolumeID, "")
	if err != nil {
		return nil, notFound(err, noVolume, sn.VolumeID)
	}
	return &source{
		snapshot: &sn.ID, size: sn.SizeGiB, kind: sn.VolumeTypeID, zone: v.AvailabilityZone, bootable: sn.Bootable, imageMetadata: sn.ImageMetadata,
	}, nil
}

func (a *API) sourceVolume(c *call, ref string) (*source, error) {
	v, err := a.volumeByID(c, ref, "volume:get")
	if err != nil {
		return nil, err
	}
	if v.Status != model.VolumeAvailable && v.Status != model.VolumeInUse {
		return nil, fault.BadRequest(sourceNotReady)
	}
	return &source{
		volume: &v.ID, size: v.SizeGiB, kind: v.VolumeTypeID, zone: v.AvailabilityZone, bootable: v.Bootable, imageMetadata: v.ImageMetadata,
	}, nil
}

func (a *API) sourceBackup(c *call, ref string) (*source, error) {
	b, err := byID(c, ref, noBackup, a.Store.Backup)
	if err != nil {
		return nil, err
	}
	if err := c.allowOwner("backup:get", b.ProjectID, b.UserID); err != nil {
		return nil, err
	}
	if b.Status != model.BackupAvailable {
		return nil, fault.BadRequest("Invalid backup: Originating backup status must be one of 'available' values")
	}
	return &source{backup: &b.ID, size: b.SizeGiB}, nil
}

// fit takes the source's size where none is given, and refuses a smaller one.
func (s *source) fit(gib *int) error {
	switch {
	case *gib == 0:
		*gib = s.size
	case *gib >= s.size:
	case s.backup != nil:
		return fault.InvalidInput("Volume size %dGB cannot be smaller than the backup size %dGB. It must be >= backup size.", *gib, s.size)
	case s.snapshot != nil:
		return fault.InvalidInput("Volume size '%d'GB cannot be smaller than the snapshot size %dGB. They must be >= original snapshot size.", *gib, s.size)
	default:
		return fault.InvalidInput("Volume size '%d'GB cannot be smaller than original volume size  %dGB. They must be >= original volume size.", *gib, s.size)
	}
	return nil
}

// sameBackend refuses a type that names another backend than the source's type does. What else keeps a
// copy from being of its type the scheduler sees.
func (a *API) sameBackend(c *call, s *source, kind *model.VolumeType) error {
	const name = "volume_backend_name"
	if s.kind == nil || *s.kind == kind.ID || kind.ExtraSpecs[name] == "" {
		return nil
	}
	of, err := a.Store.Type(c.ctx(), *s.kind, "")
	if err != nil {
		return notFound(err, noType, *s.kind)
	}
	advice := "either match source volume, or omit type argument"
	if s.snapshot != nil {
		advice = "recommend omitting the type argument"
	}
	if was := of.ExtraSpecs[name]; was != "" && was != kind.ExtraSpecs[name] {
		return fault.InvalidInput("Invalid volume_type provided: %s (requested type is not compatible; %s).", kind.ID, advice)
	}
	return nil
}

// give writes into a volume what it has of its source.
func (s *source) give(v *model.Volume) {
	v.SnapshotID, v.SourceVolID, v.Bootable, v.ImageMetadata = s.snapshot, s.volume, s.bootable, maps.Clone(s.imageMetadata)
}

// refused puts into words that the source has moved on since it was looked at.
func (s *source) refused(err error) error {
	switch {
	case s.backup != nil:
		return notFound(backupFault(err), noBackup, *s.backup)
	case !isState(err):
		return err
	case s.snapshot != nil:
		return fault.BadRequest(snapshotNotReady)
	}
	return fault.BadRequest(sourceNotReady)
}

// groupOf finds the group that a new volume is to be in; nil is none.
func (a *API) groupOf(c *call, refs map[string]string) (*model.Group, error) {
	ref := refs["consistencygroup_id"]
	if refs["group_id"] != "" { // at every version, as in Cinder
		ref = refs["group_id"]
	}
	if ref == "" {
		return nil, nil //nolint:nilnil // a volume of its own
	}
	g, err := a.groupByID(c, ref, "group:get")
	return &g, err
}

// enter refuses a volume that its group does not take, and returns the group's zone.
func (w *wanted) enter(refs map[string]string) (zone string, err error) {
	if !w.typed {
		return "", fault.InvalidInput("volume_type must be provided when creating a volume in a group.")
	}
	if !slices.Contains(w.group.VolumeTypes, w.kind.ID) {
		return "", fault.InvalidInput("Invalid volume_type provided: %s (requested type must be supported by this group).", w.kind.ID)
	}
	if w.group.AvailabilityZone != nil {
		return *w.group.AvailabilityZone, nil
	}
	return refs["availability_zone"], nil
}
