package model

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// The rules of groups are Cinder's (cinder/group/api.py), and so are their words. What they
// refuse is ErrInvalid.

func invalidGroup(format string, args ...any) error {
	return fmt.Errorf("%w: Invalid Group: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

func invalidVolume(format string, args ...any) error {
	return fmt.Errorf("%w: Invalid volume: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// GroupUse is what is with a group, beside its row.
type GroupUse struct {
	Volumes []Volume // with attachments
	// Snapshotted: one of the volumes has a snapshot.
	Snapshotted bool
	// GroupSnapshots of it.
	GroupSnapshots int
	// Copied: a group is being made from it.
	Copied bool
}

// MayDelete says why a group can't be deleted, with its volumes or not; nil if it can.
func (g *Group) MayDelete(u GroupUse, volumes bool) error {
	if !volumes && g.Status != GroupAvailable && g.Status != GroupError {
		return invalidGroup("Group status must be available or error, but current status is: %s", g.Status)
	}
	if u.GroupSnapshots > 0 {
		return invalidGroup("Group has existing snapshots.")
	}
	if len(u.Volumes) > 0 && !volumes {
		return invalidGroup("Group %s still contains volumes. The delete-volumes flag is required to delete it.", g.ID)
	}
	for i := range u.Volumes {
		if len(u.Volumes[i].Attachments) > 0 {
			return invalidGroup("Volume in group %s is attached. Need to detach first.", g.ID)
		}
	}
	switch {
	case u.Snapshotted:
		return invalidGroup("Volume in group still has dependent snapshots.")
	case u.Copied:
		return invalidGroup("Cannot delete group %s. Group status must be available or error and must not have dependent group snapshots, "+
			"and it cannot be the source for an ongoing group or group snapshot creation.", g.ID)
	}
	return nil
}

// Edit decides on a change: which volumes come and which go. members are the group's volumes,
// others those of p.Add that there are, by id.
func (g *Group) Edit(p GroupPatch, members []Volume, others map[string]Volume) (add, remove []uuid.UUID, err error) {
	var both []string
	for _, id := range p.Add {
		if slices.Contains(p.Remove, id) {
			both = append(both, "'"+id+"'")
		}
	}
	if len(both) > 0 {
		return nil, nil, invalidVolume("UUIDs [%s] are in both add and remove volume list.", strings.Join(both, ", "))
	}
	if add, err = g.adds(p.Add, members, others); err != nil {
		return nil, nil, err
	}
	if remove, err = g.removes(p.Remove, members); err != nil {
		return nil, nil, err
	}
	switch {
	case len(add)+len(remove) > 0 && g.Status != GroupAvailable:
		return nil, nil, invalidGroup("Group status must be available.")
	case len(add)+len(remove) == 0 && same(p.Name, g.Name) && same(p.Description, g.Description):
		return nil, nil, invalidGroup("Cannot update group %s because no valid name, description, add_volumes, or remove_volumes were provided.", g.ID)
	}
	return add, remove, nil
}

// same tells whether a field is not changed.
func same(want, have *string) bool { return want == nil || have != nil && *want == *have }

func (g *Group) adds(ids []string, members []Volume, others map[string]Volume) (add []uuid.UUID, err error) {
	home := HomeOf(members)
	for _, id := range ids {
		if slices.ContainsFunc(members, func(v Volume) bool { return v.ID.String() == id }) {
			continue
		}
		v, ok := others[id]
		no := func(format string, args ...any) error {
			return invalidVolume("Cannot add volume %s to group %s because %s", id, g.ID, fmt.Sprintf(format, args...))
		}
		switch {
		case !ok:
			return nil, no("volume cannot be found.")
		case v.GroupID != nil:
			return nil, no("it is already in group %s.", v.GroupID)
		case v.ProjectID != g.ProjectID:
			return nil, invalidVolume("Cannot add volume %s to group %s as they belong to different projects.", id, g.ID)
		case v.VolumeTypeID == nil:
			return nil, no("it has no volume type.")
		case !slices.Contains(g.VolumeTypes, *v.VolumeTypeID):
			return nil, no("volume type %s is not supported by the group.", v.VolumeTypeID)
		case v.Status != VolumeAvailable && v.Status != VolumeInUse:
			return nil, no("volume is in an invalid state: %s. Valid states are: ('available', 'in-use').", v.Status)
		case g.Consistent() && home != nil && v.Home != nil && *v.Home != *home:
			return nil, ErrOtherHome
		}
		if home == nil {
			home = v.Home
		}
		add = append(add, v.ID)
	}
	return add, nil
}

// ErrOtherHome refuses a volume whose data is on another host than that of its group.
var ErrOtherHome = invalidVolume("Volume is not local to this node.")

func (g *Group) removes(ids []string, members []Volume) (remove []uuid.UUID, err error) {
	may := []VolumeStatus{VolumeAvailable, VolumeInUse, VolumeError, VolumeErrorDeleting}
	for _, id := range ids {
		i := slices.IndexFunc(members, func(v Volume) bool { return v.ID.String() == id })
		switch {
		case i < 0:
			return nil, invalidVolume("Cannot remove volume %s from group %s because it is not in the group.", id, g.ID)
		case !slices.Contains(may, members[i].Status):
			return nil, invalidVolume("Cannot remove volume %s from group %s because volume is in an invalid state: %s. "+
				"Valid states are: ('available', 'in-use', 'error', 'error_deleting').", id, g.ID, members[i].Status)
		}
		remove = append(remove, members[i].ID)
	}
	return remove, nil
}

// HomeOf is the home of the first volume that has one, nil if none has.
func HomeOf(vs []Volume) *string {
	for i := range vs {
		if vs[i].Home != nil {
			return vs[i].Home
		}
	}
	return nil
}

// MaySnapshot says why no snapshot of a group can be taken, and whether its copies are to be
// made together. members are its volumes.
func (g *Group) MaySnapshot(members []Volume) (together bool, err error) {
	if g.Status == GroupDeleting {
		return false, invalidGroup("Group %s is being deleted.", g.ID)
	}
	for i := range members {
		switch v := &members[i]; {
		case v.Status == VolumeMaintenance:
			return false, invalidVolume("The snapshot cannot be created when the volume is in maintenance mode.")
		case v.Migrating():
			return false, invalidVolume("Snapshot cannot be created while volume is migrating.")
		case !slices.Contains(SnapshotFrom(), v.Status):
			return false, invalidVolume("The snapshot cannot be created when the volume is in %s status.", v.Status)
		}
	}
	return g.Together(members)
}

// SnapshotFrom are the statuses of volumes whose data is what their users have written.
func SnapshotFrom() []VolumeStatus {
	return []VolumeStatus{VolumeAvailable, VolumeInUse, VolumeReserved, VolumeAttaching, VolumeDetaching, VolumeDownloading, VolumeRetyping,
		VolumeAwaitingTransfer, VolumeUploading, "backing-up"}
}

// Together tells whether copies of these volumes of the group are to be made at one moment,
// which is where it matters: of two or more that hold data. The type of a group may have
// become consistent when its volumes were on several hosts already, which is refused.
func (g *Group) Together(members []Volume) (bool, error) {
	if !g.Consistent() {
		return false, nil
	}
	with, homes := 0, []string{}
	for i := range members {
		if v := &members[i]; !v.Pristine() {
			with++
			homes = append(homes, *v.Home)
		}
	}
	slices.Sort(homes)
	if homes = slices.Compact(homes); len(homes) > 1 {
		return false, invalidGroup("Group %s is to be consistent, but its volumes are on several hosts (%s), which can't stop at one moment.",
			g.ID, strings.Join(homes, ", "))
	}
	return with > 1, nil
}
