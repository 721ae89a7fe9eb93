package wire

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler"
	"github.com/vmthunder/vmthunder/scheduler/tree"
)

func (s *site) doctor(c model.Checkup) model.Diagnosis {
	s.t.Helper()
	d, err := s.svc.Doctor(context.Background(), c)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

// exec runs a statement on the database behind the store's back.
func (s *site) exec(query string, args ...any) {
	s.t.Helper()
	q, err := sql.Open("postgres", s.url+"?sslmode=disable")
	if err == nil {
		defer func() { _ = q.Close() }()
		_, err = q.ExecContext(context.Background(), query, args...)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// spoils has a node see something else than what stands, when it is asked.
func (s *site) spoils(host string, f func(o *model.Observed)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.agents[host].spoil = f
}

// codes are the findings in short: "error missing volume@n1".
func codes(d model.Diagnosis) string {
	var out []string
	for _, f := range d.Findings {
		at := ""
		if f.Node != "" {
			at = "@" + f.Node
		}
		out = append(out, fmt.Sprintf("%s %s %s%s", f.Severity, f.Code, f.Kind, at))
	}
	return strings.Join(out, ", ")
}

// inhabited is a site at rest, with volumes that are attached here and elsewhere, one that is not, a
// snapshot and a copy; it returns the volumes and their image.
func inhabited(t *testing.T) (*site, []model.Volume, uuid.UUID) {
	t.Helper()
	s := newSite(t, scheduler.Options{Settle: 700 * time.Millisecond}, "o1", "n1", "n2", "n3", "n4")
	image := anImage()
	vols := append(s.create(4, image), s.create(1, nil)...)
	s.available(vols)
	for i, host := range []string{"n1", "n2", "n3", "n4"} {
		a, _, err := s.connect(vols[i].ID, host)
		if err == nil {
			err = s.store.CompleteAttachment(context.Background(), a)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	sn := s.snapshot(vols[0].ID)
	s.snapshotIs(sn.ID, model.SnapshotAvailable)
	s.rest()
	return s, vols, image.ID
}

// rest lets everybody do what is to be done.
func (s *site) rest() {
	s.t.Helper()
	s.until("the nodes to be at rest", func() bool {
		nodes, err := s.store.Nodes(context.Background())
		if err != nil {
			s.t.Fatal(err)
		}
		return !slices.ContainsFunc(nodes, func(n model.Node) bool { return n.Alive && n.Applied != n.Generation })
	})
}

func TestDoctorFindsNothing(t *testing.T) {
	s, vols, image := inhabited(t)
	d := s.doctor(model.Checkup{Repair: true})
	if len(d.Findings)+len(d.Mended) > 0 {
		t.Errorf("%s; %+v\n%+v", codes(d), d.Mended, d.Findings)
	}
	if d.Nodes != 5 || d.Answered != 5 || d.Images != 1 || d.Volumes != 5 || d.Snapshots != 1 || d.Oldest == nil {
		t.Errorf("%+v", d)
	}
	// Only those that are concerned are asked.
	for answered, c := range map[int]model.Checkup{1: {Node: "n2"}, 5: {Image: image.String()}} {
		if d := s.doctor(c); d.Answered != answered {
			t.Errorf("%+v: %d nodes answered", c, d.Answered)
		}
	}
	if d := s.doctor(model.Checkup{Volume: vols[0].ID.String()}); d.Answered != 1 || d.OldestHost != "n1" {
		t.Errorf("of a volume: %+v", d)
	}
	for _, c := range []model.Checkup{{Node: "n9"}, {Image: uuid.NewString()}, {Volume: uuid.NewString()}} {
		if _, err := s.svc.Doctor(context.Background(), c); !errors.Is(err, model.ErrNotFound) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if _, err := s.svc.Doctor(context.Background(), model.Checkup{Image: "x"}); !errors.Is(err, model.ErrInvalid) {
		t.Error(err)
	}
}

// What nodes see, and what they do not say.
func TestDoctorLooksAtNodes(t *testing.T) {
	s, vols, _ := inhabited(t)
	s.mu.Lock()
	s.agents["n1"].thin[7777] = true
	s.agents["n2"].mute = true
	s.agents["n3"].old = true
	s.mu.Unlock()
	first := true
	s.spoils("o1", func(o *model.Observed) { // at work, when it is looked at for the first time
		if first {
			first, o.Settled, o.Images[0].Exported = false, false, false
		}
	})
	s.spoils("n4", func(o *model.Observed) {
		o.Unknown = []string{"device vmthunder-volume-x"}
		for i := range o.Volumes {
			if o.Volumes[i].ID == vols[3].ID.String() {
				o.Volumes[i].State, o.Volumes[i].Error = model.DeviceError, "no space"
			}
		}
	})
	d := s.doctor(model.Checkup{})
	want := "error no-answer node@n2, error not-ready volume@n4, warning unknown-thin node@n1, warning unknown-thing node@n4, info agent-old node@n3"
	if got := codes(d); got != want || d.Answered != 3 {
		t.Errorf("%d answered, found %s\nwant %s\n%+v", d.Answered, got, want, d.Findings)
	}
	// None of that is mended, and nothing is taken away.
	if d := s.doctor(model.Checkup{Repair: true}); codes(d) != want || len(d.Mended) > 0 {
		t.Errorf("after a repair: %s; %+v", codes(d), d.Mended)
	}
	s.mu.Lock()
	if !s.agents["n1"].thin[7777] {
		t.Error("a thin device that nothing knows is gone")
	}
	s.mu.Unlock()
	// A volume's thin device that is not in the pool.
	v, err := s.store.Volume(context.Background(), vols[0].ID, "")
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	delete(s.agents["n1"].thin, uint32(*v.ThinID))
	s.mu.Unlock()
	if got := codes(s.doctor(model.Checkup{Volume: v.ID.String()})); got != "error data-lost volume@n1" {
		t.Error(got)
	}
}

// A node that takes no document is given another one, and then it is as it should be.
func TestDoctorSendsDocuments(t *testing.T) {
	s, _, _ := inhabited(t)
	s.exec("UPDATE nodes SET generation = generation + 1 WHERE host = 'n1'")
	s.spoils("n2", func(o *model.Observed) { o.Volumes[0].State = model.DeviceBuilding })
	d := s.doctor(model.Checkup{})
	if got := codes(d); got != "error behind node@n1, warning not-ready volume@n2" {
		t.Fatalf("%s\n%+v", got, d.Findings)
	}
	generation := func(host string) int64 {
		n, err := s.store.Node(context.Background(), host)
		if err != nil {
			t.Fatal(err)
		}
		return n.Generation
	}
	before, other := generation("n1"), generation("n3")
	d = s.doctor(model.Checkup{Node: "n1", Repair: true})
	if codes(d) != "" || len(d.Mended) != 1 || d.Mended[0].Of != "node n1" || generation("n1") != before+1 || generation("n3") != other {
		t.Errorf("%s, %+v", codes(d), d.Mended)
	}
	d = s.doctor(model.Checkup{Repair: true})
	if codes(d) != "warning not-ready volume@n2" || len(d.Mended) != 1 {
		t.Errorf("%s, %+v", codes(d), d.Mended)
	}
}

func TestDoctorMendsTrees(t *testing.T) {
	s, _, image := inhabited(t)
	ctx := context.Background()
	s.exec("UPDATE tree_members SET depth = depth + 1, children = children + 1, fallback = host WHERE host = 'n1'")
	d := s.doctor(model.Checkup{Image: image.String()})
	if !strings.Contains(codes(d), "error tree image") || !strings.Contains(codes(d), "warning fallback image") {
		t.Fatal(codes(d))
	}
	d = s.doctor(model.Checkup{Repair: true})
	ms, err := s.store.Members(ctx, image)
	if err != nil {
		t.Fatal(err)
	}
	if bad := tree.Check(ms, 2); len(bad) > 0 || len(d.Mended) == 0 || codes(d) != "" {
		t.Errorf("%v; %s; %+v", bad, codes(d), d.Mended)
	}
	// Nobody is at the import, and nobody lets go of what is not needed.
	s.exec("UPDATE volumes SET image_id = NULL, status = 'available' WHERE home = 'n3'")
	s.exec("UPDATE tree_members SET updated_at = now() - interval '1 h' WHERE host = 'n3'")
	if d := s.doctor(model.Checkup{Node: "n3"}); !strings.Contains(codes(d), "warning idle image@n3") {
		t.Fatalf("%s", codes(d))
	}
	s.doctor(model.Checkup{Node: "n3", Repair: true})
	s.until("n3 to have left", func() bool { return len(s.members(image)) == 4 })
}

func TestDoctorEndsWhatNobodyWorksOn(t *testing.T) {
	s, vols, image := inhabited(t)
	ctx := context.Background()
	spare := s.create(6, nil)
	sn := s.snapshot(spare[5].ID) // of nothing: it has no thin device
	hour := "now() - interval '1 h'"
	at := func(v model.Volume, set string) {
		s.exec("UPDATE volumes SET "+set+", updated_at = "+hour+" WHERE id = $1", v.ID)
	}
	at(vols[0], "status = 'uploading'") // which is attached, and is in-use again
	at(spare[0], "status = 'deleting'")
	at(spare[1], "status = 'restoring-backup'")
	at(spare[2], "status = 'downloading', image_id = '"+image.String()+"'")
	at(spare[3], "status = 'maintenance', migration_status = 'migrating'")
	at(spare[4], "status = 'unmanaging'")
	s.exec("UPDATE snapshots SET status = 'deleting', updated_at = "+hour+" WHERE id = $1", sn.ID)
	s.exec(`INSERT INTO backups (id, project_id, user_id, size_gib, status, volume_id, updated_at)
		VALUES ($1, 'p', 'u', 1, 'creating', $2, `+hour+`)`, image, vols[0].ID)
	// Works, or was not long ago.
	busy := s.create(1, nil)[0]
	s.exec("UPDATE volumes SET status = 'deleting', updated_at = now() WHERE id = $1", busy.ID)

	d := s.doctor(model.Checkup{})
	stuck := 0
	for _, f := range d.Findings {
		if f.Code != "stuck" || f.Repair != model.RepairStatus {
			t.Errorf("%+v", f)
		}
		stuck++
	}
	if stuck != 8 {
		t.Errorf("%d are stuck: %s", stuck, codes(d))
	}
	d = s.doctor(model.Checkup{Repair: true})
	if len(d.Findings) > 0 || len(d.Mended) != 8 {
		t.Errorf("left: %s; mended: %+v", codes(d), d.Mended)
	}
	for i, want := range map[int]model.VolumeStatus{
		0: "gone", 1: model.VolumeErrorRestoring, 2: model.VolumeAvailable, 3: model.VolumeAvailable, 4: "gone", 5: model.VolumeAvailable,
	} {
		if got := s.status(spare[i].ID); got != want {
			t.Errorf("volume %d is %s, want %s", i, got, want)
		}
	}
	if got := s.status(vols[0].ID); got != model.VolumeInUse {
		t.Errorf("the volume that was uploaded is %s", got)
	}
	if got := s.status(busy.ID); got != model.VolumeDeleting {
		t.Errorf("the volume that is being deleted is %s", got)
	}
	if got := s.backupStatus(image); got != model.BackupError {
		t.Errorf("the backup is %s", got)
	}
	if _, err := s.store.Snapshot(ctx, sn.ID, ""); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("the snapshot: %v", err)
	}
	if v, err := s.store.Volume(ctx, spare[3].ID, ""); err != nil || v.Migrating() {
		t.Errorf("the volume that did not move: %+v, %v", v.MigrationStatus, err)
	}
	if d := s.doctor(model.Checkup{Repair: true}); len(d.Mended) > 0 {
		t.Errorf("a second time: %+v", d.Mended)
	}
}

// Before it ends something, it looks whether somebody has begun to work on it since.
func TestDoctorLooksAgain(t *testing.T) {
	s, vols, _ := inhabited(t)
	s.exec("UPDATE volumes SET status = 'uploading', updated_at = now() - interval '1 h' WHERE id = $1", vols[4].ID)
	s.spoils("o1", func(*model.Observed) { // the rows were read by then
		s.exec("UPDATE volumes SET updated_at = now() WHERE id = $1", vols[4].ID)
	})
	d := s.doctor(model.Checkup{Repair: true})
	if got := s.status(vols[4].ID); codes(d) != "error stuck volume" || len(d.Mended) > 0 || got != model.VolumeUploading {
		t.Errorf("it is %s; %s, %+v", got, codes(d), d.Mended)
	}
}

func TestDoctorCountsAnew(t *testing.T) {
	s, _, _ := inhabited(t)
	s.exec("INSERT INTO usage_changes (project_id, volumes, gib) VALUES ('p', 2, 3)")
	s.exec("UPDATE thin_numbers SET next = 1 WHERE host = 'n1'")
	if got := codes(s.doctor(model.Checkup{})); got != "error thin-numbers node@n1, warning usage project" {
		t.Fatal(got)
	}
	if d := s.doctor(model.Checkup{Repair: true}); codes(d) != "" || len(d.Mended) != 2 {
		t.Errorf("%s, %+v", codes(d), d.Mended)
	}
}

// Check-ups of a site that is at work: nothing is said that is not so.
func TestDoctorBesideWork(t *testing.T) {
	s, _, _ := inhabited(t)
	image := anImage()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			vols, err := s.svc.Create(context.Background(), []model.Volume{{ProjectID: "p", UserID: "u", SizeGiB: 1, AvailabilityZone: "nova"}}, nil, image)
			if err != nil {
				t.Error(err)
				return
			}
			for h := range s.agents {
				s.report(h)
			}
			id, _, err := s.connect(vols[0].ID, fmt.Sprintf("n%d", 1+i%4))
			if err == nil {
				_, err = s.svc.Disconnect(context.Background(), id)
			}
			if err == nil {
				err = s.svc.Delete(context.Background(), vols[0].ID, model.DeleteOptions{})
			}
			if err != nil && !errors.Is(err, model.ErrConflict) { // which is still downloading
				t.Error(err)
				return
			}
		}
	}()
	for range 5 {
		for _, f := range s.doctor(model.Checkup{}).Findings {
			if f.Wrong() {
				t.Errorf("%+v", f)
			}
		}
	}
	close(stop)
	<-done
}
