package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/sirupsen/logrus"

	"github.com/vmthunder/vmthunder/db"
	"github.com/vmthunder/vmthunder/db/dbtest"
	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler"
	"github.com/vmthunder/vmthunder/scheduler/tree"
)

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }

// site is the scheduler over a real database, with agents that do at once what their
// documents say.
type site struct {
	t     *testing.T
	store *db.Store
	url   string // of the database
	svc   *scheduler.Service

	mu     sync.Mutex
	agents map[string]*simAgent
	image  int64 // virtual size of every image
	broken string
	slow   string // a root that has not imported anything yet
	other  string // a root whose image has another size

	taskState model.TaskState // how tasks are
	taskError string
	// serves: tasks of kind serve last, or fail for a reason.
	serves     bool
	serveFails string
}

// simAgent is a node without a kernel: what its document says stands.
type simAgent struct {
	host     string
	doc      model.Desired
	boot     string
	down     bool
	busy     map[string]bool // volumes that something holds open
	lost     map[string]bool // images whose parent is out of reach
	pool     string
	thin     map[uint32]bool  // thin devices in its pool
	ends     map[uint32]int64 // bytes up to which they have data
	bare     bool             // it does not reach the store of backups
	noCopies bool             // none can be made
	backend  string           // that its pool is of
	used     int64            // bytes of its pool, more than half of it
	mute     bool             // it reports, but can't be asked
	old      bool             // its agent is of a version that can't be
	// spoil changes what it answers when it is asked what stands.
	spoil func(o *model.Observed)
}

func newSite(t *testing.T, opt scheduler.Options, hosts ...string) *site {
	t.Helper()
	t.Parallel()
	url := dbtest.Database(t)
	store, err := db.Open(context.Background(), url, db.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	s := &site{t: t, store: store, url: url, agents: map[string]*simAgent{}, image: 64 << 20}
	log := logrus.New()
	log.SetOutput(io.Discard)
	opt.Host, opt.Binary, opt.Now, opt.NewSecret = "c1", Binary, time.Now, newSecret
	if opt.AttachTimeout == 0 {
		opt.AttachTimeout = 5 * time.Second
	}
	s.svc = scheduler.New(SchedulerStore(s.store), s, opt, logrus.NewEntry(log))
	for _, h := range hosts {
		s.add(h)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { _ = s.svc.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return s
}

// add a node, which reports.
func (s *site) add(host string) {
	s.mu.Lock()
	s.agents[host] = &simAgent{
		host: host, boot: "b1", pool: "pool-" + host, thin: map[uint32]bool{}, ends: map[uint32]int64{}, busy: map[string]bool{}, lost: map[string]bool{},
	}
	s.mu.Unlock()
	s.report(host)
}

func (s *site) Healthy(context.Context) error { return nil }

func (s *site) Thins(_ context.Context, host string, but []int64) (model.Thins, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.agents[host]
	if a == nil || a.down {
		return model.Thins{}, fmt.Errorf("node %s: %w", host, model.ErrUnavailable)
	}
	out := model.Thins{PoolUUID: a.pool}
	for _, id := range slices.Sorted(maps.Keys(a.thin)) {
		if !slices.Contains(but, int64(id)) {
			out.Thins = append(out.Thins, model.Thin{ID: id, EndBytes: a.ends[id]})
		}
	}
	return out, nil
}

func (s *site) Look(_ context.Context, host string) (model.Observed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.agents[host]
	switch {
	case a == nil || a.down || a.mute:
		return model.Observed{}, fmt.Errorf("node %s: %w", host, model.ErrUnavailable)
	case a.old:
		return model.Observed{}, fmt.Errorf("node %s: %w", host, model.ErrInvalid)
	}
	o := s.observe(a)
	if a.spoil != nil {
		a.spoil(&o)
	}
	return o, nil
}

func (s *site) Nudge(ctx context.Context, host string, doc model.Desired) error {
	_, err := s.Apply(ctx, host, doc, nil)
	if err == nil {
		s.report(host)
	}
	return err
}

func (s *site) Apply(_ context.Context, host string, doc model.Desired, _ []string) (model.Observed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.agents[host]
	if a == nil || a.down {
		return model.Observed{}, fmt.Errorf("node %s: %w", host, model.ErrUnavailable)
	}
	if doc.Generation >= a.doc.Generation {
		a.doc = doc
		s.thins(a)
	}
	return s.observe(a), nil
}

// thins deletes and makes thin devices, in the order that is worst for copies.
func (s *site) thins(a *simAgent) {
	for _, d := range a.doc.Volumes {
		if d.State == model.Absent && !a.busy[d.ID] {
			delete(a.thin, d.ThinID)
		}
	}
	for _, d := range a.doc.Volumes {
		switch {
		case d.State == model.Absent || d.Materialized || a.thin[d.ThinID]:
		case d.SourceThin == 0:
			if d.State == model.Present {
				a.thin[d.ThinID] = true
			}
		case a.noCopies:
		case !a.thin[d.SourceThin]:
			s.t.Errorf("%s: %s is to be a copy of thin device %d, which is not there", a.host, d.ID, d.SourceThin)
		default:
			a.thin[d.ThinID] = true
		}
	}
}

func (s *site) observe(a *simAgent) model.Observed {
	o := model.Observed{
		Schema: 1, Host: a.host, Generation: a.doc.Generation, BootID: a.boot, Address: a.host + ":3260", Initiator: "iqn.test:" + a.host,
		Origin: strings.HasPrefix(a.host, "o"), Compute: true, AvailabilityZone: "nova", Backend: a.backend, ImageFreeBytes: 1 << 40, Settled: true, Backups: !a.bare,
		Pool: model.ObservedPool{UUID: a.pool, State: "rw", TotalBytes: 1 << 40, FreeBytes: 1<<39 - a.used},
	}
	for _, d := range a.doc.Images {
		i := model.ObservedImage{ID: d.ID, Role: d.Role, State: model.DeviceReady, DeviceBytes: s.image, VirtualBytes: s.image}
		switch {
		case d.State == model.Absent:
			i.State = model.DeviceAbsent
		case d.Role == model.RoleRoot && s.slow == a.host:
			i.State, i.DeviceBytes, i.VirtualBytes = model.DeviceImporting, 0, 0
		case d.Role == model.RoleRoot && s.other == a.host:
			i.DeviceBytes += 512
		case d.Role == model.RoleRoot && s.broken != "":
			i.State, i.Error = model.DeviceError, s.broken
		case d.Role == model.RoleRelay && (d.DeviceBytes == 0 || d.Parent == nil):
			i.State = model.DeviceBuilding
		case a.lost[d.ID]:
			i.State = model.DevicePathLost
		}
		if d.Parent != nil {
			i.Parent = d.Parent.Host
		}
		i.Exported, i.CacheMade = len(d.Children) > 0, d.CacheMade
		o.Images = append(o.Images, i)
	}
	for _, d := range a.doc.Volumes {
		v := model.ObservedVolume{ID: d.ID, State: model.DeviceReady, Device: "/dev/mapper/" + d.ID, ThinID: d.ThinID, Materialized: true, LUN: 1, Bytes: d.Bytes}
		v.Exported = len(d.Hosts) > 0
		for _, h := range d.Hosts {
			v.Hosts = append(v.Hosts, h.Initiator)
		}
		switch {
		case d.State != model.Present && a.busy[d.ID]:
			v.State, v.Error = model.DeviceBuilding, "in use"
		case d.State == model.Absent:
			v = model.ObservedVolume{ID: d.ID, State: model.DeviceAbsent}
		case d.State == model.Inactive && d.SourceThin != 0 && a.noCopies && !a.thin[d.ThinID]:
			v = model.ObservedVolume{ID: d.ID, State: model.DeviceError, Error: "no copies"}
		case d.State == model.Inactive:
			v = model.ObservedVolume{ID: d.ID, State: model.DeviceInactive, ThinID: d.ThinID, Materialized: d.Materialized || a.thin[d.ThinID]}
		}
		o.Volumes = append(o.Volumes, v)
	}
	o.Tasks = s.observedTasks(a.doc)
	return o
}

// report sends a report as an agent does at its interval.
func (s *site) report(host string) {
	s.mu.Lock()
	a := s.agents[host]
	if a == nil || a.down {
		s.mu.Unlock()
		return
	}
	o := s.observe(a)
	s.mu.Unlock()
	doc, err := s.svc.Report(context.Background(), o)
	if err != nil {
		s.t.Logf("report of %s: %v", host, err)
		return
	}
	if doc != nil {
		s.mu.Lock()
		if doc.Generation >= a.doc.Generation {
			a.doc = *doc
			s.thins(a)
		}
		s.mu.Unlock()
	}
}

// until has all agents report until something is so.
func (s *site) until(what string, done func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !done() {
		if time.Now().After(deadline) {
			s.t.Fatalf("waited a minute for %s", what)
		}
		for h := range s.agents {
			s.report(h)
		}
		time.Sleep(20 * time.Millisecond) // the pace of the agents, not a wait for an effect
	}
}

func (s *site) status(id uuid.UUID) model.VolumeStatus {
	v, err := s.store.Volume(context.Background(), id, "")
	if errors.Is(err, model.ErrNotFound) {
		return "gone"
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return v.Status
}

func (s *site) create(n int, image *model.Image) []model.Volume {
	s.t.Helper()
	var vols []model.Volume
	for range n {
		vols = append(vols, model.Volume{ProjectID: "p", UserID: "u", SizeGiB: 1, AvailabilityZone: "nova"})
	}
	out, err := s.svc.Create(context.Background(), vols, nil, image)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

func (s *site) available(vols []model.Volume) {
	s.t.Helper()
	s.until("volumes to be available", func() bool {
		return !slices.ContainsFunc(vols, func(v model.Volume) bool { return s.status(v.ID) != model.VolumeAvailable })
	})
}

func (s *site) reserve(v uuid.UUID) uuid.UUID {
	s.t.Helper()
	a, err := s.store.Reserve(context.Background(), model.Attachment{VolumeID: v, ProjectID: "p", UserID: "u"})
	if err != nil {
		s.t.Fatal(err)
	}
	return a.ID
}

func (s *site) connect(v uuid.UUID, host string) (uuid.UUID, model.Attachment, error) {
	id := s.reserve(v)
	a, err := s.svc.Connect(context.Background(), id, model.Connector{Host: host, Initiator: "iqn.test:" + host}, []byte(`{"host":"`+host+`","initiator":"iqn.test:`+host+`"}`), "rw")
	return id, a, err
}

func anImage() *model.Image {
	return &model.Image{ID: uuid.New(), Name: "ubuntu12", DiskFormat: "raw", SizeBytes: 64 << 20}
}

func TestVolumesOfOneImage(t *testing.T) {
	s := newSite(t, scheduler.Options{}, "o1", "n1", "n2", "n3", "n4", "n5")
	image := anImage()
	vols := s.create(10, image)
	for _, v := range vols {
		if v.Status != model.VolumeDownloading {
			t.Fatalf("status %s before the import, want downloading", v.Status)
		}
	}
	s.available(vols)
	for i := range 5 {
		_, a, err := s.connect(vols[i].ID, fmt.Sprintf("n%d", i+1))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(a.ConnectionInfo), `"driver_volume_type": "local"`) && !strings.Contains(string(a.ConnectionInfo), `"driver_volume_type":"local"`) {
			t.Errorf("connection info %s, want local", a.ConnectionInfo)
		}
	}
	members, err := s.store.Members(context.Background(), image.ID)
	if err != nil {
		t.Fatal(err)
	}
	if len(members) != 6 {
		t.Errorf("%d members, want 6", len(members))
	}
	if bad := tree.Check(members, 2); len(bad) > 0 {
		t.Error(bad)
	}
}

func TestOtherHostsGetISCSI(t *testing.T) {
	s := newSite(t, scheduler.Options{}, "o1", "n1")
	vols := s.create(1, nil)
	s.available(vols)
	_, a, err := s.connect(vols[0].ID, "elsewhere")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`iscsi`, `CHAP`, `:volume-` + vols[0].ID.String(), `auth_password`} {
		if !strings.Contains(string(a.ConnectionInfo), want) {
			t.Errorf("connection info %s lacks %s", a.ConnectionInfo, want)
		}
	}
}

func TestTwoAttachesRace(t *testing.T) {
	s := newSite(t, scheduler.Options{}, "o1", "n1", "n2")
	vols := s.create(1, nil)
	var wg sync.WaitGroup
	errs := make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = s.store.Reserve(context.Background(), model.Attachment{VolumeID: vols[0].ID, ProjectID: "p", UserID: "u"})
		})
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else if !errors.Is(err, model.ErrConflict) {
			t.Errorf("a loser got %v, want a conflict", err)
		}
	}
	if won != 1 {
		t.Errorf("%d of 8 got the volume", won)
	}
}

func TestDeleteLeavesNoRow(t *testing.T) {
	s := newSite(t, scheduler.Options{}, "o1", "n1", "n2")
	image := anImage()
	vols := s.create(3, image)
	s.available(vols)
	att, _, err := s.connect(vols[0].ID, "n1")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.svc.Delete(context.Background(), vols[0].ID, model.DeleteOptions{}); !errors.Is(err, model.ErrConflict) {
		t.Errorf("delete while attached: %v, want a conflict", err)
	}
	if _, err := s.svc.Disconnect(context.Background(), att); err != nil {
		t.Fatal(err)
	}
	if st := s.status(vols[0].ID); st != model.VolumeAvailable {
		t.Errorf("status %s after detach", st)
	}
	for _, v := range vols {
		if err := s.svc.Delete(context.Background(), v.ID, model.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	s.until("volumes, members and image to be gone", func() bool {
		images, err := s.store.Images(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return len(images) == 0 && s.status(vols[0].ID) == "gone"
	})
	if members, _ := s.store.Members(context.Background(), image.ID); len(members) != 0 {
		t.Errorf("members are left: %v", members)
	}
}

func TestDetachOfAnOpenDevice(t *testing.T) {
	s := newSite(t, scheduler.Options{AttachTimeout: 2 * time.Second}, "o1", "n1")
	vols := s.create(1, nil)
	att, _, err := s.connect(vols[0].ID, "n1")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.store.CompleteAttachment(context.Background(), att); err != nil {
		t.Fatal(err)
	}
	detaching := model.VolumeMove{From: []model.VolumeStatus{model.VolumeInUse}, To: model.VolumeDetaching} // os-begin_detaching
	if _, err := s.store.MoveVolume(context.Background(), vols[0].ID, detaching); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.agents["n1"].busy[vols[0].ID.String()] = true
	s.mu.Unlock()
	if _, err := s.svc.Disconnect(context.Background(), att); !errors.Is(err, model.ErrInUse) {
		t.Fatalf("detach of an open device: %v, want in use", err)
	}
	if st := s.status(vols[0].ID); st != "in-use" {
		t.Errorf("a volume that can't be detached is %s", st)
	}
	a, _, err := s.store.AttachmentVolume(context.Background(), att)
	if err != nil || len(a.Connector) == 0 {
		t.Errorf("the attachment is not as it was: %+v, %v", a, err)
	}
	s.mu.Lock()
	s.agents["n1"].busy = map[string]bool{}
	s.mu.Unlock()
	if _, err := s.svc.Disconnect(context.Background(), att); err != nil {
		t.Error(err)
	}
}

func TestDeadParentsChildrenMove(t *testing.T) {
	s := newSite(t, scheduler.Options{NodeDown: time.Second}, "o1", "n1", "n2", "n3", "n4", "n5", "n6")
	image := anImage()
	vols := s.create(6, image)
	s.available(vols)
	for i := range 6 {
		if _, _, err := s.connect(vols[i].ID, fmt.Sprintf("n%d", i+1)); err != nil {
			t.Fatal(err)
		}
	}
	members, err := s.store.Members(context.Background(), image.ID)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(members, func(m model.Member) bool { return m.Role == model.RoleRelay && m.Children > 0 })
	if i < 0 {
		t.Fatalf("nobody relays: %+v", members)
	}
	dead := members[i].Host
	s.mu.Lock()
	s.agents[dead].down = true
	s.mu.Unlock()
	s.until("nobody to read from the dead", func() bool {
		members, err := s.store.Members(context.Background(), image.ID)
		if err != nil {
			t.Fatal(err)
		}
		return !slices.ContainsFunc(members, func(m model.Member) bool { return m.Parent != nil && *m.Parent == dead })
	})
	s.mu.Lock()
	s.agents[dead].down, s.agents[dead].boot = false, "b2"
	s.agents[dead].doc = model.Desired{}
	s.mu.Unlock()
	s.until("the dead to be back in the tree", func() bool {
		n, err := s.store.Node(context.Background(), dead)
		return err == nil && n.Alive && n.Applied == n.Generation
	})
	members, err = s.store.Members(context.Background(), image.ID)
	if err != nil {
		t.Fatal(err)
	}
	if bad := tree.Check(members, 2); len(bad) > 0 {
		t.Error(bad)
	}
}

func TestNoNode(t *testing.T) {
	s := newSite(t, scheduler.Options{})
	if vols := s.create(1, nil); vols[0].Status != model.VolumeError || vols[0].Error == nil || !strings.Contains(*vols[0].Error, "no node is alive") {
		t.Errorf("without a node: %s, %v", vols[0].Status, vols[0].Error)
	}
}

func TestNoOrigin(t *testing.T) {
	s := newSite(t, scheduler.Options{}, "n1")
	if vols := s.create(1, anImage()); vols[0].Status != model.VolumeError || !strings.Contains(*vols[0].Error, "no origin") {
		t.Errorf("without an origin: %s, %v", vols[0].Status, vols[0].Error)
	}
}

func TestUnusableImage(t *testing.T) {
	s := newSite(t, scheduler.Options{}, "o1", "n1")
	s.broken = "unusable image: it has a backing file"
	vols := s.create(2, anImage())
	s.until("the volumes to fail", func() bool { return s.status(vols[1].ID) == model.VolumeError })
	v, err := s.store.Volume(context.Background(), vols[0].ID, "")
	if err != nil || v.Error == nil || !strings.Contains(*v.Error, "backing file") {
		t.Errorf("reason %v, %v", v.Error, err)
	}
	messages, err := s.store.Messages(context.Background(), model.ListQuery{ProjectID: "p"})
	if err != nil || len(messages) != 2 {
		t.Errorf("%d messages for users, %v, want 2", len(messages), err)
	}
}

func TestImageLargerThanVolume(t *testing.T) {
	s := newSite(t, scheduler.Options{}, "o1", "n1")
	s.image = 2 << 30
	vols := s.create(1, anImage())
	s.until("the volume to fail", func() bool { return s.status(vols[0].ID) == model.VolumeError })
}

// Two replicas that are asked for the same at the same time import an image once.
func TestOneImport(t *testing.T) {
	s := newSite(t, scheduler.Options{Roots: 1}, "o1", "o2", "n1")
	image := anImage()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			_, err := s.svc.Create(context.Background(), []model.Volume{{ProjectID: "p", UserID: "u", SizeGiB: 1, AvailabilityZone: "nova"}}, nil, image)
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s.until("the image to be active", func() bool {
		i, err := s.store.Image(context.Background(), image.ID)
		return err == nil && i.Status == model.ImageActive
	})
	members, err := s.store.Members(context.Background(), image.ID)
	if err != nil || len(members) != 1 {
		t.Errorf("%d roots, want 1 (%v)", len(members), err)
	}
}
