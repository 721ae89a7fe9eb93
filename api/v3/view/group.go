package view

import "github.com/vmthunder/vmthunder/db/model"

// GroupType is a type of groups, as everything shows it (cinder/api/v3/views/group_types.py).
func (c Context) GroupType(y *model.GroupType) Object {
	o := Object{"id": y.ID, "name": y.Name, "description": orNil(y.Description), "is_public": y.IsPublic}
	if c.own("group:access_group_types_specs") {
		o["group_specs"] = copyOf(y.Specs)
	}
	return o
}

// GroupSummary is a group as create and plain lists show it.
func (c Context) GroupSummary(g *model.Group) Object {
	return Object{"id": g.ID, "name": orNil(g.Name)}
}

// Group is a group as show and detailed lists have it, with its volumes if they are asked for
// (cinder/api/v3/views/groups.py). None is replicated.
func (c Context) Group(g *model.Group, volumes bool) Object {
	o := c.ConsistencyGroup(g)
	o["group_type"] = g.GroupTypeID
	if c.Version >= 14 {
		o["group_snapshot_id"], o["source_group_id"] = orNil(g.GroupSnapshotID), orNil(g.SourceGroupID)
	}
	if c.Version >= 25 && volumes {
		o["volumes"] = notNil(g.Volumes)
	}
	if c.Version >= 38 {
		o["replication_status"] = "disabled"
	}
	if c.Version >= 58 && c.allowed("group:group_project_attribute", g.ProjectID) {
		o["project_id"] = g.ProjectID
	}
	return o
}

// ConsistencyGroup is a group as the older API shows it.
func (c Context) ConsistencyGroup(g *model.Group) Object {
	return Object{
		"id": g.ID, "status": g.Status, "availability_zone": orNil(g.AvailabilityZone), "created_at": Time(g.CreatedAt),
		"name": orNil(g.Name), "description": orNil(g.Description), "volume_types": notNil(g.VolumeTypes),
	}
}

// GroupSnapshot is a group snapshot as show and detailed lists have it
// (cinder/api/v3/views/group_snapshots.py).
func (c Context) GroupSnapshot(p *model.GroupSnapshot) Object {
	o := Object{
		"id": p.ID, "group_id": p.GroupID, "group_type_id": p.GroupTypeID, "status": p.Status, "created_at": Time(p.CreatedAt),
		"name": orNil(p.Name), "description": orNil(p.Description),
	}
	if c.Version >= 58 && c.allowed("group:group_snapshot_project_attribute", p.ProjectID) {
		o["project_id"] = p.ProjectID
	}
	return o
}

// GroupSnapshotSummary is a group snapshot as plain lists show it.
func (c Context) GroupSnapshotSummary(p *model.GroupSnapshot) Object {
	return Object{"id": p.ID, "name": orNil(p.Name)}
}

// CGSnapshot is a group snapshot as the older API shows it.
func (c Context) CGSnapshot(p *model.GroupSnapshot) Object {
	return Object{
		"id": p.ID, "consistencygroup_id": p.GroupID, "status": p.Status, "created_at": Time(p.CreatedAt),
		"name": orNil(p.Name), "description": orNil(p.Description),
	}
}

// notNil is a list that is written as [] when it is empty.
func notNil(ids model.IDs) model.IDs {
	if ids == nil {
		return model.IDs{}
	}
	return ids
}
