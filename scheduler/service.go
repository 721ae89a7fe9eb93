package scheduler

import (
	"context"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/vmthunder/vmthunder/db/model"
)

// Nodes talks to the agents.
type Nodes interface {
	// Apply sends the document and waits until the volumes named are as it wants them,
	// or can't be, or ctx ends. model.ErrUnavailable if the agent can't be reached.
	Apply(ctx context.Context, host string, doc model.Desired, wait []string) (model.Observed, error)
	// Nudge sends the document and does not wait.
	Nudge(ctx context.Context, host string, doc model.Desired) error
	// Thins returns the thin devices of the node's pool but those whose numbers are given.
	// model.ErrUnavailable if the agent can't be reached, or can't look.
	Thins(ctx context.Context, host string, but []int64) (model.Thins, error)
	// Look returns what the node sees now, and changes nothing there. model.ErrUnavailable if the agent
	// can't be reached, model.ErrInvalid if it is of a version that can't be asked.
	Look(ctx context.Context, host string) (model.Observed, error)
	Healthy(ctx context.Context) error
}

// Options of the service. Zero durations take their defaults.
type Options struct {
	Host   string // of this replica
	Binary string
	// Degree of trees whose image and volume type say nothing else.
	Degree int
	// MaxImageBytes is the largest virtual size that is served.
	MaxImageBytes int64
	// NodeDown: a node silent for so long counts as dead.
	NodeDown time.Duration
	// OriginWait: an image that finds no origin for so long fails.
	OriginWait time.Duration
	// Roots is how many origins hold an image that is in use, where there are so many.
	Roots int
	// RootWait: an origin that has been silent for so long is counted on no more.
	RootWait time.Duration
	// Rebalance is how long a tree may be out of shape after a failure.
	Rebalance time.Duration
	// ImageIdle: an image that no volume uses is kept for so long, cached and ready.
	ImageIdle time.Duration
	// AttachTimeout bounds the wait for a device.
	AttachTimeout time.Duration
	// Settle is how long a check-up waits for a node that is at work.
	Settle    time.Duration
	Backend   model.Backend
	Now       func() time.Time
	NewSecret func() string // CHAP secrets, 16 letters
	Instances Instances     // nil: nobody is told
	Images    Images        // nil: what an upload that failed has left stays
}

func (o *Options) defaults() {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&o.NodeDown, 15*time.Second)
	def(&o.OriginWait, time.Minute)
	def(&o.RootWait, 10*time.Minute)
	def(&o.Rebalance, 30*time.Second)
	def(&o.AttachTimeout, 50*time.Second)
	def(&o.Settle, 10*time.Second)
	if o.Degree < 1 {
		o.Degree = 2
	}
	if o.Roots < 1 {
		o.Roots = 2
	}
	if o.MaxImageBytes <= 0 {
		o.MaxImageBytes = 1 << 40
	}
}

// Service is the scheduler of one replica.
type Service struct {
	store Store
	nodes Nodes
	opt   Options
	log   *logrus.Entry

	kick  chan struct{} // a job may be due
	mu    sync.Mutex
	dirty map[string]bool // hosts that are to get their document
	push  chan struct{}

	lookout    lookout
	together   together
	rebalanced time.Time // by this replica; watchLoop's alone
}

// New returns a service; its loops run under Run.
func New(store Store, nodes Nodes, opt Options, log *logrus.Entry) *Service {
	opt.defaults()
	return &Service{
		store: store, nodes: nodes, opt: opt, log: log,
		kick: make(chan struct{}, 1), dirty: map[string]bool{}, push: make(chan struct{}, 1),
		together: together{create: store.CreateVolumes},
	}
}

// Healthy returns nil if the bus can be reached.
func (s *Service) Healthy(ctx context.Context) error { return s.nodes.Healthy(ctx) }

// Run runs the loops until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	var loops sync.WaitGroup
	loops.Go(func() { s.jobLoop(ctx) })
	loops.Go(func() { s.pushLoop(ctx) })
	loops.Go(func() { s.watchLoop(ctx) })
	<-ctx.Done()
	loops.Wait()
	return nil
}

// wakeJobs has the job loop look at once.
func (s *Service) wakeJobs() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}
