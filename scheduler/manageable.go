package scheduler

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// inventory is what a node's pool holds, as its agent sees it, beside what is known of it. All
// that is decided about managing is decided here.
type inventory struct {
	host  string // "": no node was named, so nothing but what has no thin device is found
	known model.Storage
	seen  map[int64]model.Thin // of those that no row but one of Unmanaged knows
}

// asked are the numbers that the agent need not look at.
func asked(known model.Storage) []int64 {
	out := slices.Clone(known.Others)
	for _, m := range slices.Concat(known.Volumes, known.Snapshots) {
		out = append(out, m.ThinID)
	}
	slices.Sort(out)
	return out
}

func newInventory(host string, known model.Storage, thins model.Thins) inventory {
	inv := inventory{host: host, known: known, seen: map[int64]model.Thin{}}
	for _, t := range thins.Thins {
		inv.seen[int64(t.ID)] = t
	}
	return inv
}

// gone are what was unmanaged and is not in the pool any more.
func (inv inventory) gone() (ids []uuid.UUID) {
	for _, u := range inv.known.Unmanaged {
		if _, there := inv.thin(u); !there {
			ids = append(ids, u.ID)
		}
	}
	return ids
}

func (inv inventory) thin(u model.Unmanaged) (t model.Thin, there bool) {
	if u.ThinID == nil {
		return t, true
	}
	t, there = inv.seen[*u.ThinID]
	return t, there
}

// volumes lists what is a volume or could be one, by what they are called.
func (inv inventory) volumes() []model.Manageable {
	var out []model.Manageable
	for _, m := range inv.known.Volumes {
		out = append(out, model.Manageable{
			Reference: model.Reference(model.KindVolume, m.ID), SizeGiB: m.SizeGiB, Reason: "already managed", ManagedAs: &m.ID,
		})
	}
	remembered := map[int64]bool{}
	for _, u := range inv.known.Unmanaged {
		if u.ThinID != nil {
			remembered[*u.ThinID] = true
		}
		if t, there := inv.thin(u); there && u.Kind == model.KindVolume {
			out = append(out, model.Manageable{Reference: model.Reference(u.Kind, u.ID), SizeGiB: u.SizeGiB, Reason: used(t)})
		}
	}
	for id, t := range inv.seen {
		if !remembered[id] {
			out = append(out, model.Manageable{Reference: model.ThinReference(id), SizeGiB: thinGiB(t), Reason: unfit(t)})
		}
	}
	slices.SortFunc(out, func(a, b model.Manageable) int { return cmp.Compare(a.Reference, b.Reference) })
	return out
}

// snapshots lists what is a snapshot or could be one again. Of what nobody knows none could: whose
// snapshot it is can't be told.
func (inv inventory) snapshots() []model.Manageable {
	var out []model.Manageable
	of := func(volume *uuid.UUID) string {
		if volume == nil {
			return ""
		}
		return model.Reference(model.KindVolume, *volume)
	}
	for _, m := range inv.known.Snapshots {
		out = append(out, model.Manageable{
			Reference: model.Reference(model.KindSnapshot, m.ID), SizeGiB: m.SizeGiB, Reason: "already managed", ManagedAs: &m.ID, Source: of(m.VolumeID),
		})
	}
	for _, u := range inv.known.Unmanaged {
		if t, there := inv.thin(u); there && u.Kind == model.KindSnapshot {
			out = append(out, model.Manageable{Reference: model.Reference(u.Kind, u.ID), SizeGiB: u.SizeGiB, Reason: used(t), Source: of(u.VolumeID)})
		}
	}
	slices.SortFunc(out, func(a, b model.Manageable) int { return cmp.Compare(a.Reference, b.Reference) })
	return out
}

// thinGiB is the size of a thin device, as far as its data tell.
func thinGiB(t model.Thin) int { return int(max(1, (t.EndBytes+1<<30-1)>>30)) }

func used(t model.Thin) string {
	if t.Device != "" {
		return fmt.Sprintf("device %s stands on it; take that down first", t.Device)
	}
	return ""
}

// unfit says why what nobody knows can't be a volume, "" if it can.
func unfit(t model.Thin) string {
	switch {
	case t.Exceptions:
		return "it holds the changes of a volume on an image that is not known"
	case t.ID >= model.MaxAdopted:
		return fmt.Sprintf("its number is too high, it must be below %d", model.MaxAdopted)
	}
	return used(t)
}

// remembered finds what was unmanaged. known is false if a reference names nothing of that kind;
// why says what keeps it from being managed.
func (inv inventory) remembered(ref model.ManageRef, kind model.Kind) (_ model.Adoption, why string, known bool) {
	for _, u := range inv.known.Unmanaged {
		is := ref.ID != nil && u.ID == *ref.ID || ref.Thin != nil && u.ThinID != nil && *u.ThinID == *ref.Thin
		if !is {
			continue
		}
		t, there := inv.thin(u)
		a := model.Adoption{Was: &u, Host: u.Host, ThinID: u.ThinID, SizeGiB: max(u.SizeGiB, ref.SizeGiB)}
		switch {
		case u.Kind != kind:
			return a, fmt.Sprintf("%s was a %s, no %s", ref.Text, u.Kind, kind), true
		case !there:
			return a, fmt.Sprintf("%s is gone from the pool of node %s", ref.Text, inv.host), true
		}
		return a, used(t), true
	}
	return model.Adoption{}, "", false
}

// snapshot finds what a reference names, or says why that can't be a snapshot.
func (inv inventory) snapshot(ref model.ManageRef) (model.Adoption, string) {
	a, why, known := inv.remembered(ref, model.KindSnapshot)
	if !known {
		why = fmt.Sprintf("%q names no snapshot that was unmanaged on node %s: it must be snapshot-ID, or thin-NUMBER of one", ref.Text, inv.host)
	}
	return a, why
}

// volume finds what a reference names, or says why that can't be a volume.
func (inv inventory) volume(ref model.ManageRef) (model.Adoption, string) {
	if a, why, known := inv.remembered(ref, model.KindVolume); known {
		return a, why
	}
	switch {
	case ref.Thin == nil && ref.ID == nil:
		return model.Adoption{}, fmt.Sprintf("%q names nothing here: it must be thin-NUMBER, or volume-ID of a volume that was unmanaged", ref.Text)
	case ref.Thin == nil:
		return model.Adoption{}, fmt.Sprintf("%s is nothing that was unmanaged on node %s", ref.Text, inv.host)
	}
	t, there := inv.seen[*ref.Thin]
	switch {
	case there:
	case slices.Contains(asked(inv.known), *ref.Thin):
		return model.Adoption{}, fmt.Sprintf("%s is managed already", ref.Text)
	default:
		return model.Adoption{}, fmt.Sprintf("the pool of node %s has no thin device %d", inv.host, *ref.Thin)
	}
	return model.Adoption{Host: &inv.host, ThinID: ref.Thin, SizeGiB: max(thinGiB(t), ref.SizeGiB)}, unfit(t)
}
