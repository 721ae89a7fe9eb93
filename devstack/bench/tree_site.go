package bench

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/google/uuid"
	_ "github.com/lib/pq" // the driver of the site's own connection
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/vmthunder/vmthunder/db"
	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/devstack/lab"
	"github.com/vmthunder/vmthunder/scheduler"
)

// treeSite is the scheduler over a database of its own, with nodes that have at once what
// they are told.
type treeSite struct {
	store *db.Store
	svc   *scheduler.Service
	nodes *treeAgents
	image model.Image
	hosts []string

	wire     *pgWire // nil where nothing is counted
	postgres int     // its first process
}

const treeTemplateDB = "tree_template"

// treeNode is one node's first report.
func treeNode(i int) model.Observed {
	o := treeReport(fmt.Sprintf("node%05d", i))
	o.Rack, o.AvailabilityZone = fmt.Sprintf("rack%03d", i%250), fmt.Sprintf("zone%d", i%3)
	return o
}

func treeReport(host string) model.Observed {
	return model.Observed{
		Schema: model.DesiredSchema, Host: host, BootID: "boot-1", Address: "10.0.0.1:3260", Initiator: "iqn.2026-01.bench:" + host,
		Compute: true, Settled: true, Pool: model.ObservedPool{UUID: "pool-" + host, State: "rw", TotalBytes: 1 << 40, FreeBytes: 1 << 39},
	}
}

// treeTemplate makes the database that every run starts from: the nodes have reported.
func treeTemplate(ctx context.Context, l *lab.Lab) error {
	if err := l.CreateDatabase(ctx, treeTemplateDB); err != nil {
		return err
	}
	store, err := db.Open(ctx, l.SocketDSN(treeTemplateDB), db.Options{})
	if err != nil {
		return err
	}
	defer store.Close()
	if err := store.Migrate(ctx); err != nil {
		return err
	}
	origin := treeReport("origin")
	origin.Origin, origin.Compute = true, false
	if _, err := store.SaveObserved(ctx, origin); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i := range treeNodes {
		g.Go(func() error {
			_, err := store.SaveObserved(gctx, treeNode(i))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return treeSQL(ctx, l, treeTemplateDB, "VACUUM ANALYZE")
}

func treeSQL(ctx context.Context, l *lab.Lab, database, statement string) error {
	conn, err := sql.Open("postgres", l.SocketDSN(database))
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.ExecContext(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// newTreeSite copies the template and makes an image that its root serves.
func newTreeSite(ctx context.Context, l *lab.Lab, name string, count bool) (*treeSite, error) {
	if err := treeSQL(ctx, l, "postgres", "CREATE DATABASE "+name+" TEMPLATE "+treeTemplateDB); err != nil {
		return nil, err
	}
	s := &treeSite{image: model.Image{ID: uuid.New(), Name: "image", DiskFormat: "raw", SizeBytes: 1 << 30}}
	for i := range treeNodes {
		s.hosts = append(s.hosts, treeNode(i).Host)
	}
	if err := s.open(ctx, l, name, count); err != nil {
		return nil, err
	}
	if err := s.serve(ctx); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// open connects; with count through something that counts statements.
func (s *treeSite) open(ctx context.Context, l *lab.Lab, database string, count bool) error {
	dsn := l.SocketDSN(database)
	var err error
	if count {
		if s.wire, dsn, err = newPGWire(dsn); err != nil {
			return err
		}
	}
	if s.store, err = db.Open(ctx, dsn, db.Options{}); err != nil {
		s.close()
		return err
	}
	if s.postgres, err = postmaster(ctx, l.SocketDSN(database)); err != nil {
		s.close()
		return err
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	if s.nodes == nil {
		s.nodes = &treeAgents{told: map[string]bool{}, news: make(chan struct{}, 1)}
	}
	s.svc = scheduler.New(treeStore{s.store}, s.nodes, scheduler.Options{
		Host: database, Binary: "bench", Degree: treeDegree, Now: time.Now, NewSecret: func() string { return uuid.NewString()[:16] },
		NodeDown: 24 * time.Hour, // nobody reports here
	}, logrus.NewEntry(log))
	return nil
}

// counted is the same database through something that counts statements; its loops don't
// run, so that only its own are counted.
func (s *treeSite) counted(ctx context.Context, l *lab.Lab) (*treeSite, error) {
	c := &treeSite{image: s.image, hosts: s.hosts, nodes: s.nodes}
	return c, c.open(ctx, l, "joins", true)
}

func (s *treeSite) close() {
	if s.store != nil {
		_ = s.store.Close()
	}
	if s.wire != nil {
		_ = s.wire.Close()
	}
}

func (s *treeSite) statements() int64 {
	if s.wire == nil {
		return 0
	}
	return s.wire.statements.Load()
}

// serve makes the image active, with its root.
func (s *treeSite) serve(ctx context.Context) error {
	v := model.Volume{ProjectID: "p", UserID: "u", SizeGiB: 1}
	if _, err := s.store.CreateVolumes(ctx, []model.Volume{v}, &s.image); err != nil {
		return err
	}
	err := s.store.Tx(ctx, func(t *db.Tx) error {
		if err := t.SetImage(s.image.ID, model.ImageImporting, nil); err != nil {
			return err
		}
		return t.PutMember(model.Member{ImageID: s.image.ID, Host: "origin", Role: model.RoleRoot, State: model.MemberActive})
	})
	if err != nil {
		return err
	}
	return s.store.FinishImport(ctx, s.image.ID, 1<<30, 1<<30)
}

// attachments makes volumes of the image, reserved to be attached.
func (s *treeSite) attachments(ctx context.Context, n int) ([]uuid.UUID, error) {
	vols := make([]model.Volume, n)
	for i := range vols {
		vols[i] = model.Volume{ProjectID: "p", UserID: "u", SizeGiB: 1}
	}
	made, err := s.store.CreateVolumes(ctx, vols, &s.image)
	if err != nil {
		return nil, err
	}
	ids := make([]uuid.UUID, len(made))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i, v := range made {
		g.Go(func() error {
			a, err := s.store.Reserve(gctx, model.Attachment{VolumeID: v.ID, ProjectID: "p", UserID: "u"})
			ids[i] = a.ID
			return err
		})
	}
	return ids, g.Wait()
}

// run has the scheduler's loops run until the function that it returns is called.
func (s *treeSite) run(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.svc.Run(ctx)
	}()
	return func() { cancel(); <-done }
}

// deliver has the loops run until so many nodes have got a document.
func (s *treeSite) deliver(ctx context.Context, n int) error {
	defer s.run(ctx)()
	return s.nodes.wait(ctx, n)
}

// settled waits until all members have got a document: the loops run.
func (s *treeSite) settled(ctx context.Context) error {
	ms, err := s.store.Members(ctx, s.image.ID)
	if err != nil {
		return err
	}
	return s.nodes.wait(ctx, len(ms))
}

// treeStore is the database as the scheduler sees it.
type treeStore struct{ *db.Store }

func (s treeStore) Volume(ctx context.Context, id uuid.UUID) (model.Volume, error) {
	return s.Store.Volume(ctx, id, "")
}

func (s treeStore) Attachment(ctx context.Context, id uuid.UUID) (model.Attachment, model.Volume, error) {
	return s.AttachmentVolume(ctx, id)
}

func (s treeStore) Tx(ctx context.Context, fn func(t scheduler.Tx) error) error {
	return s.Store.Tx(ctx, func(t *db.Tx) error { return fn(t) })
}

// treeAgents are all nodes.
type treeAgents struct {
	mu   sync.Mutex
	told map[string]bool
	news chan struct{}
}

func (a *treeAgents) Healthy(context.Context) error { return nil }

func (a *treeAgents) Thins(context.Context, string, []int64) (model.Thins, error) {
	return model.Thins{}, model.ErrUnavailable
}

func (a *treeAgents) Look(context.Context, string) (model.Observed, error) {
	return model.Observed{}, model.ErrUnavailable
}

func (a *treeAgents) Nudge(_ context.Context, host string, _ model.Desired) error {
	a.tell(host)
	return nil
}

func (a *treeAgents) tell(host string) {
	a.mu.Lock()
	a.told[host] = true
	a.mu.Unlock()
	select {
	case a.news <- struct{}{}:
	default:
	}
}

func (a *treeAgents) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.told)
}

// wait until so many have got a document.
func (a *treeAgents) wait(ctx context.Context, n int) error {
	for a.count() < n {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d nodes have got their document: %w", a.count(), n, ctx.Err())
		case <-a.news:
		}
	}
	return nil
}

// Apply has at once what the document says.
func (a *treeAgents) Apply(_ context.Context, host string, doc model.Desired, _ []string) (model.Observed, error) {
	a.tell(host)
	o := treeReport(host)
	o.Generation = doc.Generation
	for _, d := range doc.Images {
		i := model.ObservedImage{ID: d.ID, Role: d.Role, State: model.DeviceReady, DeviceBytes: d.DeviceBytes}
		if d.Parent != nil {
			i.Parent = d.Parent.Host
		}
		o.Images = append(o.Images, i)
	}
	for _, d := range doc.Volumes {
		o.Volumes = append(o.Volumes, model.ObservedVolume{ID: d.ID, State: model.DeviceReady, Device: "/dev/mapper/" + d.ID, Materialized: true})
	}
	return o, nil
}
