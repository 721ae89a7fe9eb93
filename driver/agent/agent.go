package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver"
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
	// ReadBytes that a block device has served since it was made.
	ReadBytes func(path string) (int64, error)
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
	Origin, Compute  bool
	Version, BootID  string
	CacheReason      string // why the cache driver was chosen, for operators
	ReportInterval   time.Duration
	ResyncInterval   time.Duration // every group is gone through at least so often
	WatchInterval    time.Duration // how often the state of sessions is looked at
	LoginTimeout     time.Duration
	ReadAheadSectors uint64 // of the page layer
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
	workers  sync.WaitGroup
	ensured  map[string]string
	gone     map[string]bool
	changed  chan struct{} // closed and made anew whenever a group has finished a pass
	poolErr  error
	poolUUID string

	reportNow chan struct{}
}

// New returns an agent; nothing happens before Run.
func New(cfg Config, d Drivers, control Control, log *logrus.Entry) *Agent {
	cfg.defaults()
	return &Agent{
		cfg: cfg, d: d, control: control, log: log,
		host:      stack.Host{Name: cfg.Host, Address: cfg.Address, Needs: d.Cache.Needs},
		groups:    map[string]*group{},
		ensured:   map[string]string{},
		gone:      map[string]bool{},
		changed:   make(chan struct{}),
		reportNow: make(chan struct{}, 1),
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

	var loops sync.WaitGroup
	loops.Go(func() { a.reportLoop(ctx) })
	loops.Go(func() { a.watchLoop(ctx) })
	<-ctx.Done()
	loops.Wait()
	a.workers.Wait()
	return nil
}

// openPool makes the thin pool stand. A pool that can't be opened is a problem to be
// reported, not a reason to stop: the node can still relay.
func (a *Agent) openPool(ctx context.Context) {
	if a.d.Pool == nil {
		return
	}
	st, err := a.d.Pool.Open(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.poolErr, a.poolUUID = err, st.UUID
	if err != nil {
		a.log.WithError(err).Error("the pool can't be opened; volumes of this node can't be served")
	}
}

// Apply takes a document, unless a newer one was taken before, and returns what is
// seen when the volumes named in wait are as their document wants them or can't be,
// or ctx ends, whichever is first.
func (a *Agent) Apply(ctx context.Context, doc model.Desired, wait []string) (model.Observed, error) {
	if err := a.take(doc); err != nil {
		return model.Observed{}, err
	}
	for {
		a.mu.Lock()
		changed := a.changed
		waiting := a.waiting(wait)
		a.mu.Unlock()
		if len(waiting) == 0 {
			break
		}
		select {
		case <-changed:
			continue
		case <-ctx.Done():
		}
		break
	}
	return a.Observe(context.WithoutCancel(ctx)), nil
}

// take makes doc the document, and starts, wakes and stops groups accordingly.
func (a *Agent) take(doc model.Desired) error {
	if doc.Schema != model.DesiredSchema {
		return fmt.Errorf("document of schema %d: this agent takes %d; upgrade the older side", doc.Schema, model.DesiredSchema)
	}
	if doc.Host != a.cfg.Host {
		return fmt.Errorf("document for %s came to %s: two agents share a queue, set host in one of them", doc.Host, a.cfg.Host)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.run == nil || a.run.Err() != nil {
		return errors.New("the agent is stopping")
	}
	if doc.Generation < a.doc.Generation {
		return nil
	}
	a.doc = doc
	wanted := map[string]work{}
	for _, i := range doc.Images {
		w := wanted["image:"+i.ID]
		w.image = &i
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
		w.volumes = append(w.volumes, v)
		wanted[key] = w
	}
	for key, g := range a.groups {
		if _, ok := wanted[key]; !ok {
			g.cancel()
			delete(a.groups, key)
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
	return nil
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
	select {
	case a.reportNow <- struct{}{}:
	default:
	}
}
