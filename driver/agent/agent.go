package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/internal/keylock"
	"github.com/vmthunder/vmthunder/driver/stack"
)

// Drivers are the kernel facilities that the agent works through.
type Drivers struct {
	DM        driver.DeviceMapper
	Loop      driver.Loop
	Pool      driver.Pool // nil on a node that holds no volumes
	Cache     driver.Cache
	Target    driver.TargetHelper
	Initiator driver.Initiator
	Images    driver.ImageStore // nil on a node that is no origin
	// Tasks that this node can do, by kind.
	Tasks map[model.TaskKind]driver.TaskWorker
	// Backups is nil on a node that has none to do with.
	Backups BackupStore
	// ReadBytes that a block device has served since it was made.
	ReadBytes func(path string) (int64, error)
	// Size of a block device in bytes, as the kernel has it now; it is not opened.
	Size func(major, minor uint32) (int64, error)
	// Number is the major:minor of a block device's node.
	Number func(path string) (string, error)
}

// Control is the control plane, over the bus.
type Control interface {
	// Report sends what is seen; the answer is the document, if it is newer than the
	// generation reported.
	Report(ctx context.Context, o model.Observed) (*model.Desired, error)
}

// Config of the agent.
type Config struct {
	Host             string
	Address          string // IP:PORT that targets listen on and children log in to
	AvailabilityZone string
	Rack             string
	Backend          string // that the pool is of; "": the control plane's name
	Origin, Compute  bool
	Version, BootID  string
	CacheReason      string // why the cache driver was chosen, for operators
	ReportInterval   time.Duration
	ResyncInterval   time.Duration // every group is gone through at least so often
	WatchInterval    time.Duration // how often the state of sessions is looked at
	LoginTimeout     time.Duration
	ReadAheadSectors uint64 // of the page layer
	// TaskPatience is how long a task may get no further, because something else is out of
	// reach, before it has failed.
	TaskPatience time.Duration
	// PageLoops is stack.Host's; 1 if 0.
	PageLoops int
}

func (c *Config) defaults() {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&c.ReportInterval, 5*time.Second)
	def(&c.ResyncInterval, 30*time.Second)
	def(&c.WatchInterval, time.Second)
	def(&c.LoginTimeout, 10*time.Second)
	def(&c.TaskPatience, 10*time.Minute)
}

// Agent of one node.
type Agent struct {
	cfg     Config
	d       Drivers
	control Control
	log     *logrus.Entry
	host    stack.Host

	mu       sync.Mutex
	run      context.Context // of Run; groups live in it
	doc      model.Desired
	groups   map[string]*group
	tasks    map[string]*task
	leaving  map[string]<-chan struct{} // closed when the worker of a group that was dropped has ended
	workers  sync.WaitGroup
	ensured  map[string]string
	gone     map[string]bool
	copied   map[uint32]bool
	failed   map[string]error // by what copies have together: why none of them could be made
	changed  chan struct{}    // closed and made anew whenever a group has finished a pass
	poolErr  error
	poolUUID string
	backups  backupWatch

	still keylock.Locks // of volumes, by id: whoever changes or holds up their devices

	opened    chan struct{} // closed when the pool was tried for the first time; groups wait for it
	reportNow chan struct{}
	news      int // changes that the control plane should hear of, so far
	told      int // of those, how many it has heard of, in a report or in an answer
	asked     int // answers that are being waited for
}

// New returns an agent; nothing happens before Run.
func New(cfg Config, d Drivers, control Control, log *logrus.Entry) *Agent {
	cfg.defaults()
	return &Agent{
		cfg: cfg, d: d, control: control, log: log,
		host:      stack.Host{Name: cfg.Host, Address: cfg.Address, PageLoops: max(1, cfg.PageLoops), Needs: d.Cache.Needs},
		groups:    map[string]*group{},
		tasks:     map[string]*task{},
		leaving:   map[string]<-chan struct{}{},
		ensured:   map[string]string{},
		gone:      map[string]bool{},
		copied:    map[uint32]bool{},
		failed:    map[string]error{},
		changed:   make(chan struct{}),
		opened:    make(chan struct{}),
		reportNow: make(chan struct{}, 1),
		backups:   backupWatch{err: errNotLooked},
	}
}

// Run opens the pool, reports, watches the sessions, and works until ctx ends. What
// stands is left standing: a restart of the agent touches nothing that VMs use.
func (a *Agent) Run(ctx context.Context) error {
	a.mu.Lock()
	if a.run != nil {
		a.mu.Unlock()
		return errors.New("the agent runs already")
	}
	a.run = ctx
	a.mu.Unlock()
	a.openPool(ctx)
	a.prune(ctx)
	close(a.opened)

	var loops sync.WaitGroup
	loops.Go(func() { a.reportLoop(ctx) })
	loops.Go(func() { a.watchLoop(ctx) })
	loops.Go(func() { a.poolLoop(ctx) })
	if a.d.Backups != nil {
		go a.backupLoop(ctx) // not waited for: it may hang
	}
	<-ctx.Done()
	loops.Wait()
	// A document that is being taken just now may still start workers; after this, none can.
	a.mu.Lock()
	a.mu.Unlock() //nolint:staticcheck // it is the waiting that is wanted
	a.workers.Wait()
	return nil
}

// prune has the initiator forget logins to parents that nothing uses any more. Records of
// volumes are not touched: Nova may be about to log in by one.
func (a *Agent) prune(ctx context.Context) {
	p, ok := a.d.Initiator.(interface {
		Prune(ctx context.Context, ours func(iqn string) bool) error
	})
	if !ok {
		return
	}
	err := p.Prune(ctx, func(iqn string) bool {
		_, kind, _, ok := driver.ParseIQN(iqn)
		return ok && kind == "image"
	})
	if err != nil {
		a.log.WithError(err).Warn("old login records are left as they are")
	}
}

// Apply takes a document and returns what is seen when the volumes named in wait are as their
// document wants them or can't be, or ctx ends, whichever is first. The caller takes that for
// a report.
func (a *Agent) Apply(ctx context.Context, doc model.Desired, wait []string) (model.Observed, error) {
	began := time.Now()
	if err := a.Take(doc); err != nil {
		return model.Observed{}, err
	}
	defer func() {
		a.log.WithField("volumes", wait).WithField("took", time.Since(began)).Debug("document applied")
	}()
	defer a.beAsked()()
	for {
		a.mu.Lock()
		changed, stopping := a.changed, a.run.Done()
		waiting := a.waiting(wait)
		a.mu.Unlock()
		if len(waiting) == 0 {
			break
		}
		select {
		case <-changed:
			continue
		case <-ctx.Done():
		case <-stopping:
			return model.Observed{}, errStopping
		}
		break
	}
	// What is seen is told even if it took too long; looking is bounded all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reportTimeout)
	defer cancel()
	return a.tell(ctx), nil
}

var errStopping = errors.New("the agent does not run yet, or is stopping")

// Take makes doc the document, unless a newer one was taken before, and starts, wakes and stops
// groups accordingly. It does not wait for them.
func (a *Agent) Take(doc model.Desired) error {
	if doc.Schema != model.DesiredSchema {
		return fmt.Errorf("document of schema %d: this agent takes %d; upgrade the older side", doc.Schema, model.DesiredSchema)
	}
	if doc.Host != a.cfg.Host {
		return fmt.Errorf("document for %s came to %s: two agents share a queue, set host in one of them", doc.Host, a.cfg.Host)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.run == nil || a.run.Err() != nil {
		return errStopping
	}
	if doc.Generation < a.doc.Generation {
		return nil
	}
	a.doc = doc
	wanted := map[string]work{}
	for _, i := range doc.Images {
		w := wanted["image:"+i.ID]
		w.image, w.pool = &i, doc.PoolUUID
		wanted["image:"+i.ID] = w
		if i.State != model.Absent {
			delete(a.gone, i.ID)
		}
	}
	for _, v := range doc.Volumes {
		key := "volume:" + v.ID
		if v.ImageID != "" {
			key = "image:" + v.ImageID
		}
		w := wanted[key]
		w.volumes, w.pool = append(w.volumes, v), doc.PoolUUID
		wanted[key] = w
	}
	a.forget(doc)
	for key, ended := range a.leaving {
		select {
		case <-ended:
			delete(a.leaving, key)
		default:
		}
	}
	for key, g := range a.groups {
		if _, ok := wanted[key]; !ok {
			g.cancel()
			delete(a.groups, key)
			a.leaving[key] = g.ended
		}
	}
	for key, w := range wanted {
		g, ok := a.groups[key]
		if !ok {
			g = a.newGroup(key)
			a.groups[key] = g
		}
		g.set(w)
	}
	a.takeTasks(doc.Tasks)
	// Somebody may wait for a volume that is no longer spoken of.
	close(a.changed)
	a.changed = make(chan struct{})
	return nil
}

// forget drops what is remembered of images, volumes and copies that the document doesn't speak of
// any more, so that the memory is bounded by the document. The caller holds the lock.
func (a *Agent) forget(doc model.Desired) {
	named := make(map[string]bool, len(doc.Images)+len(doc.Volumes))
	thins, together := map[uint32]bool{}, map[string]bool{}
	for _, i := range doc.Images {
		named[i.ID] = true
	}
	for _, v := range doc.Volumes {
		named[v.ID], thins[v.ThinID], together[v.Together] = true, true, true
	}
	maps.DeleteFunc(a.gone, func(id string, _ bool) bool { return !named[id] })
	maps.DeleteFunc(a.copied, func(thin uint32, _ bool) bool { return !thins[thin] })
	maps.DeleteFunc(a.failed, func(moment string, _ error) bool { return !together[moment] })
}

// waiting returns the volumes of wait that are not yet what they should be.
func (a *Agent) waiting(wait []string) []string {
	var out []string
	for _, id := range wait {
		if g := a.groupOf(id); g != nil && !g.done(id) {
			out = append(out, id)
		}
	}
	return out
}

func (a *Agent) groupOf(volumeID string) *group {
	for _, v := range a.doc.Volumes {
		if v.ID == volumeID {
			if v.ImageID != "" {
				return a.groups["image:"+v.ImageID]
			}
			return a.groups["volume:"+v.ID]
		}
	}
	return nil
}

// announce tells waiters that a group has moved, and has a report sent soon.
func (a *Agent) announce(report bool) {
	a.mu.Lock()
	close(a.changed)
	a.changed = make(chan struct{})
	a.mu.Unlock()
	if report {
		a.askReport()
	}
}

func (a *Agent) askReport() {
	a.mu.Lock()
	a.news++
	a.mu.Unlock()
	select {
	case a.reportNow <- struct{}{}:
	default:
	}
}
