package wire

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/vmthunder/vmthunder/api/rpc"
	"github.com/vmthunder/vmthunder/api/rpc/transport"
	"github.com/vmthunder/vmthunder/cmd/internal/config"
	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver/agent"
	"github.com/vmthunder/vmthunder/scheduler"
)

// Methods on the bus, version 1.0 of our topics.
const (
	methodApply  = "apply"  // to a node: document, wait -> observed
	methodThins  = "thins"  // to a node: numbers to leave out -> thin devices
	methodLook   = "look"   // to a node -> observed
	methodReport = "report" // to the control plane: observed -> document or null
	rpcVersion   = "1.0"
)

// errorsOnBus are the errors that keep their meaning across the bus.
var errorsOnBus = rpc.ErrorTable{
	{Class: "NotFound", Module: "vmthunder.exception", Err: model.ErrNotFound},
	{Class: "Conflict", Module: "vmthunder.exception", Err: model.ErrConflict},
	{Class: "Invalid", Module: "vmthunder.exception", Err: model.ErrInvalid},
	{Class: "Unavailable", Module: "vmthunder.exception", Err: model.ErrUnavailable},
}

// Bus is this process's connection to RabbitMQ.
type Bus struct {
	Transport rpc.Transport
	Client    *rpc.Client
	cfg       *config.Config
	log       *logrus.Entry
}

// OpenBus connects in the background; it does not wait for the broker.
func OpenBus(c *config.Config, log *logrus.Entry) (*Bus, error) {
	t, err := transport.Open(c.TransportURL, transport.Options{Log: log, RetryMax: 5 * time.Second})
	if err != nil {
		return nil, configError("[DEFAULT] transport_url: %w", err)
	}
	client, err := rpc.NewClient(t, rpc.ClientOptions{
		Exchange: c.ControlExchange, Flags: flags(c), Errors: errorsOnBus, Timeout: c.RPCTimeout,
	})
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return &Bus{Transport: t, Client: client, cfg: c, log: log}, nil
}

func flags(c *config.Config) rpc.Flags {
	return rpc.Flags{Durable: c.DurableQueues, AutoDelete: c.AutoDelete}
}

// Close ends the connection.
func (b *Bus) Close() error { return errors.Join(b.Client.Close(), b.Transport.Close()) }

// serve runs an RPC server until ctx ends.
func (b *Bus) serve(ctx context.Context, topic, server string, methods map[string]rpc.Method) error {
	return rpc.NewServer(b.Transport, rpc.ServerOptions{
		Exchange: b.cfg.ControlExchange, Flags: flags(b.cfg), Errors: errorsOnBus, Topic: topic, Server: server,
		Concurrency: 128, DrainTime: 5 * time.Second, Log: b.log,
	}, rpc.Endpoint{Version: rpcVersion, Methods: methods}).Run(ctx)
}

type applyArgs struct {
	Document model.Desired `json:"document"`
	Wait     []string      `json:"wait"`
	// WaitMS bounds the wait, in milliseconds: below the caller's own patience, so that
	// it gets to know what is in the way.
	WaitMS int64 `json:"wait_ms"`
}

type thinsArgs struct {
	But []int64 `json:"but"`
}

type lookArgs struct{}

type reportArgs struct {
	Observed model.Observed `json:"observed"`
}

// unavailable gives failures of the bus the meaning that the REST API knows.
func unavailable(err error) error {
	for _, e := range []error{rpc.ErrNotConnected, rpc.ErrConnectionLost, rpc.ErrNoConsumer, rpc.ErrTimeout, rpc.ErrTopology} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %w", model.ErrUnavailable, err)
		}
	}
	return err
}

// nodes is scheduler.Nodes over the bus.
type nodes struct{ b *Bus }

var _ scheduler.Nodes = nodes{}

func (n nodes) Apply(ctx context.Context, host string, doc model.Desired, wait []string) (model.Observed, error) {
	var o model.Observed
	args := applyArgs{Document: doc, Wait: wait, WaitMS: 30_000}
	if d, ok := ctx.Deadline(); ok {
		args.WaitMS = max(0, time.Until(d).Milliseconds()-1500)
	}
	began := time.Now()
	err := n.b.Client.Call(ctx, rpc.Target{Topic: rpc.TopicNode, Server: host, Version: rpcVersion}, methodApply, args, &o, rpc.Monitor(10*time.Second))
	n.b.log.WithFields(logrus.Fields{"node": host, "volumes": wait, "took": time.Since(began)}).Debug("document sent and answered")
	if err != nil {
		return o, fmt.Errorf("node %s: %w", host, unavailable(err))
	}
	return o, nil
}

func (n nodes) Nudge(ctx context.Context, host string, doc model.Desired) error {
	return unavailable(n.b.Client.Cast(ctx, rpc.Target{Topic: rpc.TopicNode, Server: host, Version: rpcVersion}, methodApply, applyArgs{Document: doc}))
}

func (n nodes) Thins(ctx context.Context, host string, but []int64) (model.Thins, error) {
	var out model.Thins
	err := n.b.Client.Call(ctx, rpc.Target{Topic: rpc.TopicNode, Server: host, Version: rpcVersion}, methodThins, thinsArgs{But: but}, &out)
	if errors.Is(err, rpc.ErrNoSuchMethod) {
		err = fmt.Errorf("%w: its agent is of an older version and can't look into its pool; upgrade it: %w", model.ErrUnavailable, err)
	}
	if err != nil {
		return out, fmt.Errorf("node %s: %w", host, unavailable(err))
	}
	return out, nil
}

func (n nodes) Look(ctx context.Context, host string) (model.Observed, error) {
	var o model.Observed
	err := n.b.Client.Call(ctx, rpc.Target{Topic: rpc.TopicNode, Server: host, Version: rpcVersion}, methodLook, lookArgs{}, &o)
	if errors.Is(err, rpc.ErrNoSuchMethod) {
		err = fmt.Errorf("%w: its agent is of an older version: %w", model.ErrInvalid, err)
	}
	if err != nil {
		return o, fmt.Errorf("node %s: %w", host, unavailable(err))
	}
	return o, nil
}

func (n nodes) Healthy(context.Context) error { return unavailable(n.b.Client.Healthy()) }

// control is agent.Control over the bus.
type control struct{ b *Bus }

var _ agent.Control = control{}

func (c control) Report(ctx context.Context, o model.Observed) (*model.Desired, error) {
	var doc *model.Desired
	err := c.b.Client.Call(ctx, rpc.Target{Topic: rpc.TopicControl, Version: rpcVersion}, methodReport, reportArgs{Observed: o}, &doc)
	return doc, err
}

// serveControl takes the agents' reports.
func serveControl(ctx context.Context, b *Bus, host string, s *scheduler.Service) error {
	return b.serve(ctx, rpc.TopicControl, host, map[string]rpc.Method{
		methodReport: rpc.Handle(func(ctx context.Context, _ rpc.Context, a reportArgs) (*model.Desired, error) {
			return s.Report(ctx, a.Observed)
		}),
	})
}

// serveNode takes the control plane's documents.
func serveNode(ctx context.Context, b *Bus, host string, a *agent.Agent) error {
	return b.serve(ctx, rpc.TopicNode, host, map[string]rpc.Method{
		methodApply: rpc.Handle(func(ctx context.Context, _ rpc.Context, args applyArgs) (*model.Observed, error) {
			if len(args.Wait) == 0 {
				return nil, a.Take(args.Document)
			}
			ctx, cancel := context.WithTimeout(ctx, time.Duration(args.WaitMS)*time.Millisecond)
			defer cancel()
			o, err := a.Apply(ctx, args.Document, args.Wait)
			return &o, err
		}),
		methodLook: lookMethod(a.Observe),
		methodThins: rpc.Handle(func(ctx context.Context, _ rpc.Context, args thinsArgs) (model.Thins, error) {
			return a.Thins(ctx, args.But)
		}),
	})
}

// lookMethod answers with what is seen, which counts for no report.
func lookMethod(observe func(context.Context) model.Observed) rpc.Method {
	return rpc.Handle(func(ctx context.Context, _ rpc.Context, _ lookArgs) (model.Observed, error) { return observe(ctx), nil })
}
