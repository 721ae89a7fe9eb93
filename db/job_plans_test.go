package db_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db"
	"github.com/vmthunder/vmthunder/db/model"
)

// What is done for each volume, attachment, report and job looks at few rows, however many
// there are; what a row's going has the server look for counts, too.
func TestPlansOfWork(t *testing.T) {
	p := newPlanner(t)
	p.fill()
	img := p.active("root", gib)
	for _, q := range []string{
		`INSERT INTO nodes (host, alive) SELECT 'm' || i, true FROM generate_series(0, 9999) i`,
		`INSERT INTO tree_members (image_id, host, role, state, parent, fallback, depth, children, observed_parent)
			SELECT '` + img.String() + `', 'm' || i, 'relay', 'active', CASE WHEN i = 0 THEN 'root' ELSE 'm' || (i - 1) / 2 END, 'root', 1 + floor(log(2, i + 1)),
				CASE WHEN i < 4999 THEN 2 WHEN i = 4999 THEN 1 ELSE 0 END, CASE WHEN i = 0 THEN 'root' ELSE 'm' || (i - 1) / 2 END FROM generate_series(0, 9999) i`,
		`INSERT INTO tree_members (image_id, host, role, state, parent, depth, children)
			SELECT i.id, 'n' || k, CASE k WHEN 0 THEN 'root' ELSE 'relay' END, 'active', CASE WHEN k > 0 THEN 'n0' END, sign(k), CASE k WHEN 0 THEN 99 ELSE 0 END
			FROM images i, generate_series(0, 99) k WHERE NOT EXISTS (SELECT 1 FROM tree_members m WHERE m.image_id = i.id)`,
		`INSERT INTO jobs (kind, subject, run_at, taken_by, taken_until)
			SELECT 'release-image', gen_random_uuid(), now() + (i - 100) * interval '1 minute', CASE WHEN i < 20 THEN 'c' END, CASE WHEN i < 20 THEN now() + interval '1 hour' END
			FROM generate_series(1, 5000) i`,
		"UPDATE tree_members SET fallback = NULL",
		"INSERT INTO thin_numbers (host, next) SELECT host, 1000 FROM nodes ON CONFLICT DO NOTHING",
		"VACUUM ANALYZE",
	} {
		p.must(p.ExecRaw(p.ctx, q))
	}
	tx := func(fn func(t *db.Tx) error) func() error {
		return func() error { return p.Tx(p.ctx, fn) }
	}
	var other uuid.UUID
	p.must(p.GetRaw(p.ctx, &other, "SELECT image_id FROM tree_members WHERE host = 'n99' LIMIT 1"))
	blank := model.Volume{ProjectID: planProject, UserID: "u", SizeGiB: 1, ConsumesQuota: true} // counted against what p0 has already
	var made []model.Volume
	var group model.Group
	var shot model.GroupSnapshot
	var att model.Attachment
	var job model.Job
	relay := func(host string) []model.Member {
		return []model.Member{{ImageID: img, Host: host, Role: model.RoleRelay, State: model.MemberJoining, Parent: new("m5000"), Depth: 14}}
	}
	for _, x := range []struct {
		what string
		most int
		do   func() error
	}{
		{"possible parents", 300, tx(func(t *db.Tx) error { _, err := t.Frontier(img, 2, 65); return err })},
		{"a tree", 150, func() error { _, err := p.Members(p.ctx, other); return err }},
		{"members among hosts", 10, tx(func(t *db.Tx) error { _, err := t.MembersOf(img, "m7", "n5"); return err })},
		{"a member", 10, tx(func(t *db.Tx) error { _, err := t.Member(img, "m7"); return err })},
		{"nodes by name", 10, tx(func(t *db.Tx) error { _, err := t.NodesOf("m7", "n5"); return err })},
		{"a join", 60, tx(func(t *db.Tx) error { _ = t.Bump("n1"); return t.Place(img, relay("n1"), nil) })},
		{"a move", 60, tx(func(t *db.Tx) error {
			m := relay("n1")
			m[0].Parent = new("m5001")
			return t.Place(img, nil, m)
		})},
		{"a leave", 60, tx(func(t *db.Tx) error { return t.DeleteMember(img, "n1") })},
		{"a pin", 10, tx(func(t *db.Tx) error { return t.Pin(img, []string{"m3"}, true) })},
		{"volumes of an image by home", 300, tx(func(t *db.Tx) error { _, err := t.VolumesOf(img); return err })},
		{"a node's state", 200, func() error { _, err := p.NodeState(p.ctx, "m7"); return err }},
		{"a node's state, with volumes and other images", 1000, func() error { _, err := p.NodeState(p.ctx, "n7"); return err }},
		{"a report", 300, func() error { _, err := p.SaveObserved(p.ctx, report("m7")); return err }},
		{"a job", 60, func() error { var err error; job, err = p.TakeJob(p.ctx, "c", time.Minute); return err }},
		{"a job again", 10, func() error { return p.RetryJob(p.ctx, job.ID, time.Now(), "why") }},
		{"a job done", 10, func() error { return p.FinishJob(p.ctx, job.ID) }},
		{"a job wanted", 10, tx(func(t *db.Tx) error { return t.AddJob(model.JobReleaseImage, uuid.NewString(), time.Now()) })},
		{"a volume made", 300, func() error {
			var err error
			made, err = p.CreateVolumes(p.ctx, []model.Volume{blank}, nil)
			return err
		}},
		{"a volume", 10, func() error { _, err := p.Volume(p.ctx, made[0].ID, planProject); return err }},
		{"a project's volumes counted", 2 * planInP0, func() error { _, err := p.CountVolumes(p.ctx, model.ListQuery{ProjectID: planProject}); return err }},
		{"usage", 300, func() error { _, err := p.Usage(p.ctx, planProject); return err }},
		{"a volume reserved", 60, func() error { var err error; att, err = p.reserve(made[0].ID, nil); return err }},
		{"an attachment", 10, func() error { _, _, err := p.AttachmentVolume(p.ctx, att.ID); return err }},
		{"a home", 60, tx(func(t *db.Tx) error { _, err := t.SetHome(made[0].ID, "m7"); return err })},
		{"an attachment's end", 30, tx(func(t *db.Tx) error { return t.DeleteAttachment(att.ID) })},
		{"a volume's way out", 60, func() error {
			_, err := p.MoveVolume(p.ctx, made[0].ID, model.VolumeMove{From: []model.VolumeStatus{model.VolumeReserved}, To: model.VolumeDeleting})
			return err
		}},
		{"a volume's end", 60, func() error { return p.DeleteRow(p.ctx, made[0].ID) }},
		{"a group made", 60, func() error {
			y, err := p.GroupTypeByName(p.ctx, model.LegacyGroupType, true)
			if err == nil {
				group, err = p.CreateGroup(p.ctx, model.Group{ProjectID: planProject, UserID: "u", GroupTypeID: y.ID})
			}
			return err
		}},
		{"a group's volume made", 300, func() error {
			in := blank
			in.GroupID = &group.ID
			var err error
			made, err = p.CreateVolumes(p.ctx, []model.Volume{in}, nil)
			return err
		}},
		{"a group's home", 60, tx(func(t *db.Tx) error { _, err := t.GroupHome(group.ID); return err })},
		{"a group's snapshot", 300, func() error {
			var err error
			shot, _, err = p.CreateGroupSnapshot(p.ctx, model.GroupSnapshot{GroupID: group.ID, ProjectID: planProject, UserID: "u"})
			return err
		}},
		{"a group's copy", 500, func() error {
			_, _, err := p.CopyGroup(p.ctx, model.Group{ProjectID: planProject, UserID: "u", GroupSnapshotID: &shot.ID})
			return err
		}},
		{"a group's snapshot on its way out", 60, func() error {
			snaps, err := p.DeleteGroupSnapshot(p.ctx, shot.ID)
			if err == nil {
				_, err = p.DeleteSnapshotRow(p.ctx, snaps[0].ID)
			}
			return err
		}},
		{"a group's way out", 60, func() error { _, err := p.DeleteGroup(p.ctx, group.ID, true); return err }},
		{"a group's end", 60, func() error { return p.DeleteRow(p.ctx, made[0].ID) }},
		{"a type's end", 60, func() error {
			typ, err := p.CreateType(p.ctx, model.VolumeType{Name: "gone"})
			if err != nil {
				return err
			}
			return p.DeleteType(p.ctx, typ.ID)
		}},
	} {
		p.looks(x.what, x.most, false, x.do)
	}
}

// A row that others refer to is looked for in their tables when it goes: each such
// reference needs an index, or the deletion of one reads them all.
func TestReferencesHaveIndexes(t *testing.T) {
	w := newWorld(t)
	var all []struct{ Child, Columns string }
	rows, err := w.Raw().QueryContext(w.ctx, `SELECT c.conrelid::regclass::text, string_agg(a.attname, ', ' ORDER BY k.at)
		FROM pg_constraint c CROSS JOIN LATERAL unnest(c.conkey) WITH ORDINALITY AS k (attnum, at)
		JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum
		WHERE c.contype = 'f' AND NOT EXISTS (
			SELECT 1 FROM pg_index i WHERE i.indrelid = c.conrelid
				AND (i.indkey::int2[])[0:array_length(c.conkey, 1) - 1] @> c.conkey AND c.conkey <@ (i.indkey::int2[])[0:array_length(c.conkey, 1) - 1])
		GROUP BY c.oid, c.conrelid`)
	w.must(err)
	defer rows.Close()
	for rows.Next() {
		var x struct{ Child, Columns string }
		w.must(rows.Scan(&x.Child, &x.Columns))
		all = append(all, x)
	}
	w.must(rows.Err())
	small := "qos_specs, volume_types" // an operator's, and few
	for _, x := range all {
		if !strings.Contains(small, x.Child) {
			t.Errorf("%s (%s) refers to a table, and no index begins with it", x.Child, x.Columns)
		}
	}
}
