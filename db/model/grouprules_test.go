package model

import (
	"strings"
	"testing"

	"github.com/google/uuid"
)

func at(home string) Volume {
	v := Volume{ID: uuid.New(), ProjectID: "p", VolumeTypeID: &kindOfVolume, Status: VolumeAvailable}
	if home != "" {
		thin := int64(1)
		v.Home, v.ThinID, v.Materialized = &home, &thin, true
	}
	return v
}

var kindOfVolume = uuid.New()

func groupOf(consistent bool) Group {
	g := Group{ID: uuid.New(), ProjectID: "p", Status: GroupAvailable, VolumeTypes: IDs{kindOfVolume}, Specs: StringMap{}}
	if consistent {
		g.Specs[consistentSpec] = "<is> True"
	}
	return g
}

// said is nil's "" or an error's text.
func said(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Copies are made together where it matters, and refused where it can't be done.
func TestTogether(t *testing.T) {
	for name, c := range map[string]struct {
		consistent bool
		homes      string
		together   bool
		refused    string
	}{
		"two with data":               {true, "a a", true, ""},
		"one with data":               {true, "a -", false, ""},
		"none with data":              {true, "- -", false, ""},
		"none at all":                 {true, "", false, ""},
		"two, of which one is blank":  {true, "a a -", true, ""},
		"on two hosts":                {true, "b a b", false, "(a, b), which can't stop at one moment"},
		"on two hosts, no matter":     {false, "a b", false, ""},
		"two with data, no matter":    {false, "a a", false, ""},
		"two with data on other host": {true, "b b", true, ""},
	} {
		g := groupOf(c.consistent)
		var members []Volume
		for _, h := range strings.Fields(c.homes) {
			members = append(members, at(strings.Trim(h, "-")))
		}
		together, err := g.MaySnapshot(members)
		if together != c.together || (c.refused == "") != (err == nil) || !strings.Contains(said(err), c.refused) {
			t.Errorf("%s: %t, %v", name, together, err)
		}
	}
}

// A volume that comes to a consistent group has its data where that of the group is; those
// that come at once, too.
func TestComingToAGroup(t *testing.T) {
	for name, c := range map[string]struct {
		consistent    bool
		members, come string
		refused       bool
	}{
		"same home": {true, "a", "a", false}, "no home yet": {true, "a", "-", false}, "the group has none": {true, "-", "b", false},
		"another home": {true, "a", "b", true}, "two with homes of their own": {true, "-", "a b", true}, "no matter": {false, "a", "b c", false},
	} {
		g := groupOf(c.consistent)
		var members []Volume
		for _, h := range strings.Fields(c.members) {
			members = append(members, at(strings.Trim(h, "-")))
		}
		others, p := map[string]Volume{}, GroupPatch{}
		for _, h := range strings.Fields(c.come) {
			v := at(strings.Trim(h, "-"))
			others[v.ID.String()] = v
			p.Add = append(p.Add, v.ID.String())
		}
		add, _, err := g.Edit(p, members, others)
		if c.refused != (said(err) == said(ErrOtherHome)) || !c.refused && len(add) != len(p.Add) {
			t.Errorf("%s: %v, %v", name, add, err)
		}
	}
}

// Volumes whose data nobody can vouch for are not snapshotted with their group.
func TestSnapshotOfAGroup(t *testing.T) {
	moving := "migrating"
	for name, c := range map[string]struct {
		change  func(g *Group, v *Volume)
		refused string
	}{
		"fine":         {func(*Group, *Volume) {}, ""},
		"in use":       {func(_ *Group, v *Volume) { v.Status = VolumeInUse }, ""},
		"error":        {func(_ *Group, v *Volume) { v.Status = VolumeError }, "cannot be created when the volume is in error status"},
		"being made":   {func(_ *Group, v *Volume) { v.Status = VolumeCreating }, "is in creating status"},
		"maintenance":  {func(_ *Group, v *Volume) { v.Status = VolumeMaintenance }, "maintenance mode"},
		"migrating":    {func(_ *Group, v *Volume) { v.MigrationStatus = &moving }, "while volume is migrating"},
		"on its way":   {func(g *Group, _ *Volume) { g.Status = GroupDeleting }, "is being deleted"},
		"made of odds": {func(g *Group, _ *Volume) { g.Status = GroupError }, ""},
	} {
		g, members := groupOf(true), []Volume{at("a"), at("a")}
		c.change(&g, &members[1])
		_, err := g.MaySnapshot(members)
		if (c.refused == "") != (err == nil) || !strings.Contains(said(err), c.refused) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
