package db_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db"
	"github.com/vmthunder/vmthunder/db/model"
)

// Sizes of what the plans are made for. Project p0 is large, the others are alike.
const (
	planRows    = 20_000
	planInP0    = 2_000
	planPage    = 100
	planProject = "p0"
)

// Why a form is not served by an index of its own.
const (
	rareSort  = "hardly a client orders by it, and an index for each of many columns would cost every write"
	fewValues = "it has few values: where they are common the order of time finds a page soon"
	isText    = "a text in the middle of another is found by an index only with extension pg_trgm, which not every server has"
	adminOnly = "administrators alone may ask, and rarely do"
	fewGroups = "a project has few groups, ten by its quota"
)

// listed is one noun's lists: which of the API's forms an index serves.
type listed struct {
	list func(q model.ListQuery) error
	// sorted are the columns that an index orders a project's rows by, sortedAll all rows.
	sorted, sortedAll []string
	// found is a filter on each column, with a value that few rows have. An index finds
	// them, unless scans says why not.
	found map[string]model.Filter
	// scans: filters, by column, and orders, written "by column", that look at all rows of
	// a project or of the table.
	scans map[string]string
}

// What the API can ask for looks at a page, not at a table; what does not is named here, and why.
func TestListPlans(t *testing.T) {
	p := newPlanner(t)
	p.fill()
	one := func(column string) []string { return []string{column} }
	for noun, l := range map[string]listed{
		"volumes": {
			list:   func(q model.ListQuery) error { _, err := p.ListVolumes(p.ctx, q); return err },
			sorted: []string{"created_at", "name", "display_name"}, sortedAll: []string{"created_at", "name", "display_name", "id"},
			found: map[string]model.Filter{
				"id": {Value: "$volume"}, "project_id": {Value: "p3"}, "user_id": {Value: "nobody"}, "name": {Value: "n77"},
				"display_name": {Value: "n77"}, "description": {Value: "none"}, "display_description": {Value: "none"},
				"size": {Value: "77"}, "status": {Value: "error"}, "attach_status": {Value: "error"}, "migration_status": {Value: "success"},
				"availability_zone": {Value: "elsewhere"}, "volume_type_id": {Value: "$type"}, "volume_type": {Value: "rare"},
				"bootable": {Value: "true"}, "multiattach": {Value: "true"}, "consumes_quota": {Value: "false"}, "image_id": {Value: "$image"},
				"snapshot_id": {Value: uuid.NewString()}, "source_volid": {Value: uuid.NewString()}, "group_id": {Value: "$group"}, "host": {Value: "n9"},
				"metadata": {Map: model.StringMap{"k": "v100"}}, "image_metadata": {Map: model.StringMap{"k": "none"}},
				"glance_metadata": {Map: model.StringMap{"k": "none"}}, "created_at": {Op: "gt", Value: "$recent"},
				"updated_at": {Op: "gt", Value: "$recent"}, "launched_at": {Op: "gt", Value: "$recent"},
				"name~": {Column: "name", Op: "like", Value: "nobody"},
			},
			scans: map[string]string{
				"by size": rareSort, "by user_id": rareSort, "by description": rareSort, "by display_description": rareSort,
				"by updated_at": rareSort, "by launched_at": rareSort, "by host": rareSort, "by volume_type_id": rareSort, "by volume_type": rareSort,
				"by image_id": rareSort, "by snapshot_id": rareSort, "by source_volid": rareSort, "by group_id": rareSort, "by project_id": rareSort,
				"by id": rareSort, "by status": rareSort, "by attach_status": rareSort, "by migration_status": rareSort,
				"by availability_zone": rareSort, "by bootable": rareSort, "by multiattach": rareSort, "by consumes_quota": rareSort,
				"user_id": adminOnly, "description": adminOnly, "display_description": adminOnly, "attach_status": adminOnly, "multiattach": adminOnly,
				"source_volid": adminOnly, "glance_metadata": adminOnly, "image_metadata": adminOnly, "launched_at": adminOnly,
				"volume_type": "the API asks by the type's id", "size": fewValues, "availability_zone": fewValues, "bootable": fewValues,
				"consumes_quota": fewValues, "updated_at": "its index would have to be written with every change of every volume", "name~": isText,
			},
		},
		"snapshots": {
			list:   func(q model.ListQuery) error { _, err := p.ListSnapshots(p.ctx, q); return err },
			sorted: []string{"created_at", "name", "display_name"}, sortedAll: []string{"created_at", "id"},
			found: map[string]model.Filter{
				"id": {Value: "$snapshot"}, "project_id": {Value: "p3"}, "user_id": {Value: "nobody"}, "name": {Value: "n77"}, "availability_zone": {Value: "elsewhere"},
				"display_name": {Value: "n77"}, "description": {Value: "none"}, "size": {Value: "77"}, "volume_size": {Value: "77"},
				"status": {Value: "error"}, "progress": {Value: "7%"}, "volume_id": {Value: "$volume"}, "volume_type_id": {Value: "$type"},
				"consumes_quota": {Value: "false"}, "group_snapshot_id": {Value: uuid.NewString()}, "host": {Value: "n9"},
				"metadata": {Map: model.StringMap{"k": "v100"}}, "created_at": {Op: "gt", Value: "$recent"}, "updated_at": {Op: "gt", Value: "$recent"},
				"name~": {Column: "name", Op: "like", Value: "nobody"},
			},
			scans: map[string]string{
				"by size": rareSort, "by volume_size": rareSort, "by user_id": rareSort, "by description": rareSort, "by updated_at": rareSort,
				"by host": rareSort, "by volume_type_id": rareSort, "by group_snapshot_id": rareSort, "by project_id": rareSort, "by id": rareSort,
				"by status": rareSort, "by progress": rareSort, "by consumes_quota": rareSort, "by volume_id": rareSort, "by availability_zone": rareSort,
				"by name": adminOnly, "by display_name": adminOnly,
				"name": adminOnly, "display_name": adminOnly, "status": adminOnly, "user_id": adminOnly, "description": adminOnly, "progress": adminOnly,
				"volume_type_id": adminOnly, "updated_at": adminOnly, "size": fewValues, "volume_size": fewValues, "consumes_quota": fewValues,
				"availability_zone": fewValues, "metadata": "few label snapshots, and fewer look for the labels", "name~": isText,
			},
		},
		"attachments": {
			list:   func(q model.ListQuery) error { _, err := p.ListAttachments(p.ctx, q); return err },
			sorted: one("created_at"), sortedAll: []string{"created_at", "id"},
			found: map[string]model.Filter{
				"id": {Value: "$attachment"}, "project_id": {Value: "p3"}, "volume_id": {Value: "$volume"}, "instance_id": {Value: "$instance"},
				"instance_uuid": {Value: "$instance"}, "status": {Value: "error_attaching"}, "attach_status": {Value: "error_attaching"},
				"attached_host": {Value: "n9"}, "attach_mode": {Value: "ro"}, "mountpoint": {Value: "/dev/vdx"}, "created_at": {Op: "gt", Value: "$recent"},
				"updated_at": {Op: "gt", Value: "$recent"}, "attached_at": {Op: "gt", Value: "$recent"},
			},
			scans: map[string]string{
				"by updated_at": rareSort, "by attached_at": rareSort, "by status": rareSort, "by attach_status": rareSort, "by volume_id": rareSort,
				"by instance_id": rareSort, "by instance_uuid": rareSort, "by attached_host": rareSort, "by attach_mode": rareSort,
				"by mountpoint": rareSort, "by project_id": rareSort, "by id": rareSort,
				"status": fewValues, "attach_status": fewValues, "attached_host": adminOnly, "attach_mode": adminOnly, "mountpoint": adminOnly,
				"updated_at": adminOnly, "attached_at": adminOnly,
			},
		},
		"messages": {
			list:   func(q model.ListQuery) error { _, err := p.Messages(p.ctx, q); return err },
			sorted: one("created_at"), sortedAll: []string{"expires_at", "id"},
			found: map[string]model.Filter{
				"id": {Value: "$message"}, "project_id": {Value: "p3"}, "resource_uuid": {Value: "$told"}, "resource_type": {Value: "none"},
				"event_id": {Value: "none"}, "request_id": {Value: "req-none"}, "message_level": {Value: "none"},
				"created_at": {Op: "gt", Value: "$recent"}, "expires_at": {Op: "lt", Value: "$recent"},
			},
			scans: map[string]string{
				"by resource_uuid": rareSort, "by resource_type": rareSort, "by event_id": rareSort, "by request_id": rareSort, "by message_level": rareSort,
				"by project_id": rareSort, "by id": rareSort, "by expires_at": rareSort, "by created_at": "the API shows a project's only",
				"resource_type": fewValues, "event_id": fewValues, "message_level": fewValues, "request_id": "they live for 30 days, so a project has few",
				"created_at": "the API shows a project's only",
			},
		},
		"groups": {
			list:   func(q model.ListQuery) error { _, err := p.ListGroups(p.ctx, q); return err },
			sorted: one("created_at"), sortedAll: []string{"created_at", "id"},
			found: map[string]model.Filter{
				"id": {Value: "$group"}, "project_id": {Value: "p3"}, "user_id": {Value: "nobody"}, "name": {Value: "n77"}, "description": {Value: "none"},
				"status": {Value: "error"}, "availability_zone": {Value: "elsewhere"}, "group_type_id": {Value: uuid.NewString()},
				"group_snapshot_id": {Value: uuid.NewString()}, "source_group_id": {Value: uuid.NewString()}, "legacy": {Value: "true"},
				"created_at": {Op: "gt", Value: "$recent"}, "updated_at": {Op: "gt", Value: "$recent"},
			},
			scans: map[string]string{
				"by updated_at": rareSort, "by user_id": rareSort, "by description": rareSort, "by status": rareSort, "by name": fewGroups,
				"by availability_zone": rareSort, "by group_type_id": rareSort, "by group_snapshot_id": rareSort, "by source_group_id": rareSort,
				"by project_id": rareSort, "by id": rareSort,
				"name": fewGroups, "user_id": adminOnly, "description": adminOnly, "status": adminOnly, "availability_zone": adminOnly, "updated_at": adminOnly,
				"legacy": fewGroups,
			},
		},
		"group snapshots": {
			list:   func(q model.ListQuery) error { _, err := p.ListGroupSnapshots(p.ctx, q); return err },
			sorted: one("created_at"), sortedAll: []string{"created_at", "id"},
			found: map[string]model.Filter{
				"id": {Value: uuid.NewString()}, "project_id": {Value: "p3"}, "user_id": {Value: "nobody"}, "name": {Value: "n77"}, "description": {Value: "none"},
				"status": {Value: "error"}, "group_id": {Value: "$group"}, "group_type_id": {Value: uuid.NewString()}, "legacy": {Value: "true"},
				"created_at": {Op: "gt", Value: "$recent"}, "updated_at": {Op: "gt", Value: "$recent"},
			},
			scans: map[string]string{
				"by updated_at": rareSort, "by user_id": rareSort, "by description": rareSort, "by status": rareSort, "by name": fewGroups,
				"by group_id": rareSort, "by group_type_id": rareSort, "by project_id": rareSort, "by id": rareSort,
				"name": fewGroups, "user_id": adminOnly, "description": adminOnly, "status": fewValues, "updated_at": adminOnly, "legacy": fewGroups,
			},
		},
	} {
		t.Run(noun, func(t *testing.T) {
			p.t = t
			p.check(noun, l)
		})
	}
	p.t = t
}

func (p *planner) check(noun string, l listed) {
	for _, c := range db.ListColumns(noun) {
		if _, ok := l.found[c.Name]; !ok {
			p.t.Errorf("say what a filter by %s finds", c.Name)
		}
		if !c.Sorts {
			continue
		}
		for _, project := range []string{planProject, ""} {
			served := slices.Contains(l.sorted, c.Name) && project != "" || slices.Contains(l.sortedAll, c.Name) && project == ""
			for _, desc := range []bool{false, true} {
				q := model.ListQuery{ProjectID: project, Limit: planPage, Sort: []model.SortKey{{Column: c.Name, Desc: desc}}}
				what := fmt.Sprintf("%s of project %q by %s, descending %t", noun, project, c.Name, desc)
				p.form(what, q, l, served, "by "+c.Name)
				q.Marker = p.middle(noun, q)
				p.form(what+", from the middle", q, l, served, "by "+c.Name)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.found)) {
		f := l.found[name]
		if f.Column == "" {
			f.Column = name
		}
		if f.Op == "" {
			f.Op = "="
		}
		f.Value = p.value(f.Value)
		for _, project := range []string{planProject, ""} {
			q := model.ListQuery{ProjectID: project, Limit: planPage, Filters: []model.Filter{f}}
			p.form(fmt.Sprintf("%s of project %q with %s %s %s%v", noun, project, f.Column, f.Op, f.Value, f.Map), q, l, l.scans[name] == "", name)
		}
	}
}

// form is one form of a list. Where an index serves it, it may pass over some rows of
// others that lie between; where not, the server may choose whatever it likes.
func (p *planner) form(what string, q model.ListQuery, l listed, served bool, name string) {
	most := 5 * planPage
	if !served {
		most = 3 * planRows
		if l.scans[name] == "" {
			p.t.Errorf("%s: no index is said to serve it, and no reason why not", what)
		}
	}
	p.looks(what, most, !served, func() error { return l.list(q) })
}

// middle is the row in the middle of a list.
func (p *planner) middle(noun string, q model.ListQuery) *uuid.UUID {
	rows := planRows
	if q.ProjectID != "" {
		rows = planInP0
	}
	id, err := p.Nth(p.ctx, noun, q, rows/2)
	p.must(err)
	return &id
}

// value fills in what only the database knows.
func (p *planner) value(s string) string {
	query := map[string]string{
		"$volume": "SELECT id FROM volumes WHERE project_id = 'p0' LIMIT 1", "$image": "SELECT id FROM images LIMIT 1",
		"$group": "SELECT group_id FROM volumes WHERE group_id IS NOT NULL LIMIT 1", "$type": "SELECT id FROM volume_types WHERE name = 'rare'",
		"$snapshot": "SELECT id FROM snapshots WHERE project_id = 'p0' LIMIT 1", "$attachment": "SELECT id FROM attachments WHERE project_id = 'p0' LIMIT 1",
		"$instance": "SELECT instance_uuid FROM attachments LIMIT 1", "$message": "SELECT id FROM messages WHERE project_id = 'p0' LIMIT 1",
		"$told": "SELECT resource_uuid FROM messages LIMIT 1",
	}[s]
	switch {
	case s == "$recent":
		return time.Now().Add(-time.Minute).UTC().Format(time.RFC3339Nano)
	case query == "":
		return s
	}
	var v string
	p.must(p.GetRaw(p.ctx, &v, query))
	return v
}

// fill makes the rows, in no order. What is rare in life is rare here.
func (p *planner) fill() {
	p.t.Helper()
	const project = "CASE WHEN i % 10 = 3 THEN 'p0' ELSE 'p' || 1 + i % 3000 END"
	for _, q := range []string{
		`INSERT INTO nodes (host, alive) SELECT 'n' || i, true FROM generate_series(0, 999) i`,
		`INSERT INTO volume_types (id, name) SELECT gen_random_uuid(), CASE i WHEN 0 THEN 'rare' ELSE 't' || i END FROM generate_series(0, 19) i`,
		`INSERT INTO images (id, disk_format, status) SELECT gen_random_uuid(), 'raw', 'active' FROM generate_series(1, 200)`,
		`INSERT INTO volume_groups (id, project_id, user_id, name, status, availability_zone, group_type_id, group_snapshot_id, source_group_id, created_at)
			SELECT gen_random_uuid(), ` + project + `, 'u' || i % 200, 'n' || i % 5000, CASE WHEN i % 500 = 3 THEN 'error' ELSE 'available' END, 'nova', y.id,
				CASE WHEN i % 10 = 0 THEN gen_random_uuid() END, CASE WHEN i % 10 = 5 THEN gen_random_uuid() END, now() - i * interval '1 second' - interval '1 hour'
			FROM generate_series(1, 20000) i, group_types y ORDER BY md5(i::text)`,
		`INSERT INTO group_snapshots (id, group_id, group_type_id, project_id, user_id, name, status, created_at)
			SELECT gen_random_uuid(), id, group_type_id, project_id, user_id, name, status, created_at FROM volume_groups ORDER BY md5(id::text)`,
		`INSERT INTO volumes (id, project_id, user_id, name, size_gib, status, attach_status, volume_type_id, bootable, image_id, group_id, metadata, migration_status,
				home, thin_id, created_at, updated_at)
			SELECT gen_random_uuid(), ` + project + `, 'u' || i % 200, CASE WHEN i % 10 > 0 THEN 'n' || i % 5000 END, 1 + i % 20,
				CASE WHEN i % 500 = 3 THEN 'error' WHEN i % 2 = 0 THEN 'in-use' ELSE 'available' END, CASE WHEN i % 2 = 0 THEN 'attached' ELSE 'detached' END,
				t.ids[CASE WHEN i % 2000 = 0 THEN 1 ELSE 2 + i % 19 END], i % 3 = 0, g.ids[1 + i % 200], CASE WHEN i % 200 = 0 THEN s.ids[i / 200] END,
				CASE WHEN i % 100 = 0 THEN jsonb_build_object('k', 'v' || i) ELSE '{}' END, CASE WHEN i % 1000 = 0 THEN 'success' END,
				'n' || i % 1000, 1000 + i, now() - i * interval '1 second' - interval '1 hour', now() - i * interval '1 second' - interval '1 hour'
			FROM generate_series(1, 20000) i, (SELECT array_agg(id ORDER BY name) AS ids FROM volume_types) t, (SELECT array_agg(id) AS ids FROM images) g,
				(SELECT array_agg(id) AS ids FROM volume_groups) s
			ORDER BY md5(i::text)`,
		`INSERT INTO snapshots (id, volume_id, project_id, user_id, name, size_gib, status, metadata, created_at)
			SELECT gen_random_uuid(), id, project_id, user_id, name, size_gib, CASE status WHEN 'error' THEN 'error' ELSE 'available' END, metadata, created_at
			FROM volumes ORDER BY md5(id::text)`,
		`INSERT INTO attachments (id, volume_id, project_id, user_id, instance_uuid, attached_host, attach_mode, attach_status, created_at)
			SELECT gen_random_uuid(), id, project_id, user_id, gen_random_uuid(), home, 'rw', 'attached', created_at FROM volumes ORDER BY md5(id::text)`,
		`INSERT INTO messages (id, project_id, request_id, resource_type, resource_uuid, event_id, user_message, created_at, expires_at)
			SELECT gen_random_uuid(), project_id, 'req-' || id, 'VOLUME', id, 'VOLUME_VOLUME_001_002', 'no', created_at, created_at + interval '30 days'
			FROM volumes ORDER BY md5(id::text)`,
		"VACUUM ANALYZE",
	} {
		p.must(p.ExecRaw(p.ctx, q))
	}
}
