package db_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db"
	"github.com/vmthunder/vmthunder/db/model"
)

func (w *world) census() model.Census {
	w.t.Helper()
	c, err := w.Census(w.ctx)
	w.must(err)
	return c
}

// odd is what a census finds that is passing or disagrees.
func odd(c model.Census) string {
	var out []string
	for _, p := range c.Passing {
		out = append(out, fmt.Sprintf("%s %s", p.Kind, p.Status))
	}
	for _, v := range c.Crooked {
		out = append(out, fmt.Sprintf("crooked %s %d", v.Status, v.Attached))
	}
	for _, m := range c.Idle {
		out = append(out, "idle "+m.Host)
	}
	for _, s := range c.Shared {
		out = append(out, fmt.Sprintf("shared %s %d", s.Host, s.ThinID))
	}
	for _, a := range c.Ahead {
		out = append(out, fmt.Sprintf("ahead %s %d %d", a.Host, a.Next, a.Used))
	}
	for _, u := range c.Usage {
		out = append(out, fmt.Sprintf("usage %s %t %d %d %d %d %d %d", u.Project, u.Type != nil, u.Volumes, u.Snapshots, u.GiB, u.Backups, u.BackupGiB, u.Groups))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// populated is a world with one of everything, at rest. It returns the image.
func populated(w *world) uuid.UUID {
	w.t.Helper()
	image := w.active("o1", gib)
	w.node("n1")
	w.tx(func(t *db.Tx) error {
		return t.PutMember(model.Member{ImageID: image, Host: "n1", Role: model.RoleRelay, State: model.MemberActive, Parent: ptr("o1")})
	})
	gold := w.volumeType("gold")
	w.volumeType("iron")
	v := vol(3)
	v.VolumeTypeID, v.ConsumesQuota = &gold.ID, true
	plain, free := vol(2), vol(7) // the last does not count
	plain.ConsumesQuota = true
	vs := w.create(&model.Image{ID: image}, v, plain, free)
	w.tx(func(t *db.Tx) error {
		_, err := t.SetHome(vs[0].ID, "n1")
		return err
	})
	_, err := w.Reserve(w.ctx, model.Attachment{VolumeID: vs[1].ID, ProjectID: "p1", UserID: "u1"})
	w.must(err)
	_, err = w.CreateSnapshots(w.ctx, []model.Snapshot{{VolumeID: vs[0].ID, ProjectID: "p1", UserID: "u1", ConsumesQuota: true}}, []model.VolumeStatus{model.VolumeAvailable})
	w.must(err)
	for _, q := range []string{
		"UPDATE volumes SET retype_to = (SELECT id FROM volume_types WHERE name = 'iron') WHERE id = '" + vs[0].ID.String() + "'",
		`INSERT INTO backups (id, project_id, user_id, size_gib, status, volume_id) VALUES (gen_random_uuid(), 'p1', 'u1', 4, 'available', gen_random_uuid())`,
		`INSERT INTO volume_groups (id, project_id, user_id, status, group_type_id) SELECT gen_random_uuid(), 'p1', 'u1', 'available', id FROM group_types`,
	} {
		w.must(w.ExecRaw(w.ctx, q))
	}
	return image
}

// At rest a census finds nothing, and it sees each thing that is spoilt.
func TestCensus(t *testing.T) {
	w := newWorld(t)
	image := populated(w)
	c := w.census()
	if got := odd(c); got != "" {
		t.Errorf("at rest: %s", got)
	}
	if len(c.Nodes) != 2 || len(c.Images) != 1 || c.Volumes != 4 || c.Snapshots != 1 || c.Homes["n1"] != 1 || c.Attached["n1"] != 0 || len(c.More) > 0 {
		t.Errorf("%d nodes, %d images, %d volumes, %d snapshots, %v, %v", len(c.Nodes), len(c.Images), c.Volumes, c.Snapshots, c.Homes, c.More)
	}
	for _, x := range []struct{ spoil, mend, want string }{
		{"UPDATE volumes SET status = 'uploading' WHERE home = 'n1'", "UPDATE volumes SET status = 'available' WHERE home = 'n1'", "volume uploading"},
		{"UPDATE snapshots SET status = 'deleting'", "UPDATE snapshots SET status = 'available'", "snapshot deleting"},
		{"UPDATE backups SET status = 'restoring'", "UPDATE backups SET status = 'available'", "backup restoring"},
		{"UPDATE volume_groups SET status = 'deleting'", "UPDATE volume_groups SET status = 'available'", "group deleting"},
		{"UPDATE volumes SET status = 'in-use' WHERE home = 'n1'", "UPDATE volumes SET status = 'available' WHERE home = 'n1'", "crooked in-use 0"},
		{
			"WITH a AS (UPDATE attachments SET attach_status = 'attached') UPDATE volumes SET status = 'available' WHERE status = 'reserved'",
			"WITH a AS (UPDATE attachments SET attach_status = 'reserved') UPDATE volumes v SET status = 'reserved' FROM attachments x WHERE x.volume_id = v.id", "crooked available 1",
		},
		{"UPDATE volumes SET image_id = NULL WHERE home = 'n1'", "UPDATE volumes SET image_id = '" + image.String() + "' WHERE home = 'n1'", "idle n1"},
		{"UPDATE snapshots SET home = 'n1', thin_id = (SELECT thin_id FROM volumes WHERE home = 'n1')", "UPDATE snapshots SET home = NULL, thin_id = NULL", "shared n1 5"},
		{"UPDATE thin_numbers SET next = 5 WHERE host = 'n1'", "UPDATE thin_numbers SET next = 6 WHERE host = 'n1'", "ahead n1 5 5"},
		{"INSERT INTO usage_changes (project_id, volumes, gib) VALUES ('p1', 1, 2)", "INSERT INTO usage_changes (project_id, volumes, gib) VALUES ('p1', -1, -2)", "usage p1 false -1 0 -2 0 0 0"},
	} {
		w.must(w.ExecRaw(w.ctx, x.spoil))
		if got := odd(w.census()); got != x.want {
			t.Errorf("%s: found %q, want %q", x.spoil, got, x.want)
		}
		w.must(w.ExecRaw(w.ctx, x.mend))
	}
	if got := odd(w.census()); got != "" {
		t.Errorf("in the end: %s", got)
	}
}

// What is passing says who works on it.
func TestPassingOf(t *testing.T) {
	w := newWorld(t)
	image := populated(w)
	var id uuid.UUID
	w.must(w.GetRaw(w.ctx, &id, "SELECT id FROM volumes WHERE home = 'n1'"))
	passing := func(kind model.FindingKind, id uuid.UUID) (p model.Passing) {
		w.t.Helper()
		w.tx(func(t *db.Tx) (err error) { p, err = t.PassingOf(kind, id); return err })
		return p
	}
	p := passing(model.FindVolume, id)
	if *p.Image != image || p.ImageStatus != model.ImageActive || *p.Home != "n1" || p.Tasks != "" || p.Parts != 1 || p.Copying || !p.Since.After(time.Now().Add(-time.Hour)) {
		t.Errorf("%+v", p)
	}
	task := func(kind model.TaskKind, s model.TaskStatus, args string, snapshot *uuid.UUID) {
		w.tx(func(t *db.Tx) error {
			if _, err := t.LockVolume(id); err != nil {
				return err
			}
			_, err := t.AddTask(model.Task{
				Kind: kind, Status: s, Host: "n1", VolumeID: id, SnapshotID: snapshot, Access: model.TaskNone, Bytes: 1, Args: model.JSON(args), ProjectID: "p1", UserID: "u1",
			})
			return err
		})
	}
	var sn, backup uuid.UUID
	w.must(w.GetRaw(w.ctx, &sn, "SELECT id FROM snapshots"))
	w.must(w.GetRaw(w.ctx, &backup, "SELECT id FROM backups"))
	task(model.TaskUploadImage, model.TaskFailed, "{}", nil) // is over
	task(model.TaskMigrate, model.TaskSucceeded, "{}", nil)  // its node has still something to take down
	task(model.TaskCreateBackup, model.TaskRunning, `{"backup_id": "`+backup.String()+`"}`, &sn)
	if p := passing(model.FindVolume, id); p.Tasks != "migrate" {
		t.Errorf("of the volume: %q", p.Tasks)
	}
	if p := passing(model.FindSnapshot, sn); p.Tasks != "create-backup" || *p.Volume != id || p.Parts != 0 {
		t.Errorf("of the snapshot: %+v", p)
	}
	if p := passing(model.FindBackup, backup); p.Tasks != "create-backup" {
		t.Errorf("of the backup: %+v", p)
	}
	w.must(w.ExecRaw(w.ctx, "UPDATE volumes SET status = 'reverting'"))
	if p := passing(model.FindSnapshot, sn); p.Parts != 1 {
		t.Errorf("of the snapshot that is reverted to: %+v", p)
	}
}

// A recount adds what is missing, also beside somebody who changes the same project and is not done.
func TestRecountUsage(t *testing.T) {
	w := newWorld(t)
	populated(w)
	w.must(w.ExecRaw(w.ctx, "INSERT INTO usage_changes (project_id, volumes, gib, groups) VALUES ('p1', 3, -5, 1), ('p2', 1, 0, 0)"))
	w.must(w.ExecRaw(w.ctx, "INSERT INTO usage_changes (project_id, volume_type_id, snapshots) SELECT 'p1', id, 2 FROM volume_types WHERE name = 'gold'"))
	open, err := w.Raw().BeginTx(w.ctx, nil)
	w.must(err)
	defer func() { _ = open.Rollback() }()
	_, err = open.ExecContext(w.ctx, "INSERT INTO volumes (id, project_id, user_id, size_gib, status) VALUES (gen_random_uuid(), 'p1', 'u1', 11, 'available')")
	w.must(err)
	for i, want := range []int{2, 0} {
		n, err := w.RecountUsage(w.ctx, "p1")
		if w.must(err); n != want {
			t.Errorf("recount %d: %d, want %d", i+1, n, want)
		}
	}
	w.must(open.Commit())
	if got := odd(w.census()); got != "usage p2 false -1 0 0 0 0 0" { // which nobody asked for
		t.Errorf("afterwards: %s", got)
	}
	w.must(w.ExecRaw(w.ctx, "UPDATE volumes SET retype_to = NULL")) // of which what counts rows by hand knows nothing
	w.sameUsage("p1")
}

// Two recounts at once add what is missing once.
func TestRecountUsageTwice(t *testing.T) {
	w := newWorld(t)
	w.must(w.ExecRaw(w.ctx, "INSERT INTO usage_changes (project_id, volumes) VALUES ('p1', 3)"))
	other, err := w.Raw().BeginTx(w.ctx, nil)
	w.must(err)
	defer func() { _ = other.Rollback() }()
	for _, q := range []string{
		"SELECT pg_advisory_xact_lock(hashtextextended('quota of project p1', 0))", "INSERT INTO usage_changes (project_id, volumes) VALUES ('p1', -3)",
	} {
		_, err = other.ExecContext(w.ctx, q)
		w.must(err)
	}
	done := make(chan int)
	go func() {
		n, err := w.RecountUsage(w.ctx, "p1")
		if err != nil {
			t.Error(err)
		}
		done <- n
	}()
	for waits := false; !waits; {
		select {
		case n := <-done:
			t.Fatalf("it did not wait for the other, and wrote %d", n)
		default:
		}
		w.must(w.GetRaw(w.ctx, &waits, "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"))
	}
	w.must(other.Commit())
	if n := <-done; n != 0 {
		t.Errorf("it wrote %d", n)
	}
}

func TestRecountTree(t *testing.T) {
	w := newWorld(t)
	image := w.active("o1", gib)
	for _, m := range []struct{ host, parent string }{{"n1", "o1"}, {"n2", "o1"}, {"n3", "n1"}, {"n4", "n3"}} {
		w.node(m.host)
		w.tx(func(t *db.Tx) error {
			return t.PutMember(model.Member{ImageID: image, Host: m.host, Role: model.RoleRelay, State: model.MemberActive, Parent: &m.parent})
		})
	}
	rows := func() string {
		ms, err := w.Members(w.ctx, image)
		w.must(err)
		var out []string
		for _, m := range ms {
			out = append(out, fmt.Sprintf("%s %d %d", m.Host, m.Depth, m.Children))
		}
		slices.Sort(out)
		return strings.Join(out, ", ")
	}
	recount := func() (n int) {
		w.tx(func(t *db.Tx) (err error) { n, err = t.RecountTree(image); return err })
		return n
	}
	before := rows()
	if n := recount(); n != 0 {
		t.Errorf("%d members of a tree that was right", n)
	}
	w.must(w.ExecRaw(w.ctx, "UPDATE tree_members SET depth = depth + 2, children = 4 WHERE host IN ('n1', 'n4')"))
	w.must(w.ExecRaw(w.ctx, "UPDATE tree_members SET children = 0 WHERE host = 'o1'"))
	if n := recount(); n != 3 || rows() != before {
		t.Errorf("%d members: %s, want %s", n, rows(), before)
	}
	// Whoever reaches no root keeps its depth, and it ends.
	w.must(w.ExecRaw(w.ctx, "UPDATE tree_members SET parent = 'n4' WHERE host = 'n3'"))
	if n := recount(); n != 2 || rows() != "n1 1 0, n2 1 0, n3 2 1, n4 3 1, o1 0 2" {
		t.Errorf("%d members in a circle: %s", n, rows())
	}
}

func TestRaiseThinNumbers(t *testing.T) {
	w := newWorld(t)
	populated(w)
	next := func() (n int) {
		w.must(w.GetRaw(w.ctx, &n, "SELECT next FROM thin_numbers WHERE host = 'n1'"))
		return n
	}
	before := next()
	for _, n := range []int{2, before + 10, before} {
		w.must(w.ExecRaw(w.ctx, "UPDATE thin_numbers SET next = $1 WHERE host = 'n1'", n))
		w.must(w.RaiseThinNumbers(w.ctx, "n1"))
		if got := next(); got != max(n, before) {
			t.Errorf("from %d to %d", n, got)
		}
	}
	w.must(w.RaiseThinNumbers(w.ctx, "o1")) // has none in use
}
