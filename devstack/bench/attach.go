package bench

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/vmthunder/vmthunder/devstack/cluster"
)

var attach = Case{Name: "attach", Title: "Attach of a warm image until the device is there", Run: runAttach}

const (
	attachRuns     = 60 // warm attaches that are timed, each with its detach
	attachStanding = 40 // volumes of the image that stand beside, in the second part
	attachTraced   = 20 // warm attaches that are taken apart
	attachCold     = 5
	attachColdSize = 16 << 20 // of each of their images, bytes
)

func runAttach(ctx context.Context, b *Bench) (err error) {
	s, err := newWarmSite(ctx, b, "bench-attach")
	if err != nil {
		return err
	}
	defer func() { err = s.close(ctx, err) }()
	if err := s.timeAttaches(ctx, b); err != nil {
		return err
	}
	return s.traceAttaches(ctx, b)
}

// timeAttaches times warm attaches and detaches as they are in production, one after the other.
func (s *warmSite) timeAttaches(ctx context.Context, b *Bench) error {
	volumes, err := s.createMany(ctx, attachRuns+attachStanding)
	if err != nil {
		return err
	}
	before, err := s.reaped(ctx)
	if err != nil {
		return err
	}
	var up, down, crowded []float64
	for _, v := range volumes[:attachRuns] {
		x, err := s.attach(ctx, v)
		if err != nil {
			return err
		}
		ms, err := s.detach(ctx, x)
		if err != nil {
			return err
		}
		up, down = append(up, x.total()), append(down, ms)
	}
	var beside []attached
	for _, v := range volumes[attachRuns:] {
		x, err := s.attach(ctx, v)
		if err != nil {
			return err
		}
		crowded, beside = append(crowded, x.total()), append(beside, x)
	}
	for _, x := range beside {
		if _, err := s.detach(ctx, x); err != nil {
			return err
		}
	}
	after, err := s.reaped(ctx)
	if err != nil {
		return err
	}
	if after != before {
		return fmt.Errorf("the agent has had children in %d warm attaches and as many detaches: its kernel counts %d of their page faults, before it was %d",
			len(volumes), after, before)
	}
	what := "warm attach, first request to first bytes read"
	b.Add(Row{What: what + ", p50", Unit: "ms", Samples: up, Note: "Reserve, connect and complete as Nova does them one after the other, over Keystone and RabbitMQ, with the agent on a kernel whose system calls cost 20 µs each; then 4 KiB read from the device."})
	b.Add(Row{What: what + ", p99", Unit: "ms", Samples: []float64{Quantile(up, 0.99)}})
	b.Add(Row{What: fmt.Sprintf("the same beside %d to %d other volumes of the image, p50", attachStanding/2, attachStanding), Unit: "ms", Samples: crowded[attachStanding/2:]})
	b.Add(Row{What: "detach of it, p50", Unit: "ms", Samples: down})
	b.Add(Row{What: "detach of it, p99", Unit: "ms", Samples: []float64{Quantile(down, 0.99)}})
	return nil
}

// traceAttaches takes warm attaches and cold ones apart, by the debug logs.
func (s *warmSite) traceAttaches(ctx context.Context, b *Bench) error {
	if err := s.debugAgent(ctx); err != nil {
		return err
	}
	t := tracer{s: s, agent: logTail{path: s.node.LogPath("vmthunder-node")}, control: logTail{path: s.c.API(0).LogPath()}}
	volumes, err := s.createMany(ctx, attachTraced)
	if err != nil {
		return err
	}
	if err := t.skip(); err != nil {
		return err
	}
	var up, down traces
	for _, v := range volumes {
		x, off, err := t.cycle(ctx, v)
		if err != nil {
			return err
		}
		up, down = append(up, x), append(down, off)
	}
	addAnatomy(b, up)
	b.Add(Row{What: "executed in a warm attach", Unit: "commands", Samples: up.commands(), Goal: AtMost(0), Note: "Counted by the agent, which executes through one place; and its kernel has seen no child of it end in the attaches above."})
	b.Add(Row{What: "executed in a detach", Unit: "commands", Samples: down.commands(), Goal: AtMost(0)})
	b.Add(Row{What: "share of a warm attach spent in fork and exec", Unit: "%", Samples: up.share(), Goal: AtMost(0)})

	var cold traces
	for i := range attachCold {
		image, err := s.upload(ctx, fmt.Sprintf("cold-%d", i), attachColdSize)
		if err != nil {
			return err
		}
		v, err := s.create(ctx, image)
		if err != nil {
			return err
		}
		if err := t.skip(); err != nil {
			return err
		}
		x, _, err := t.cycle(ctx, v)
		if err != nil {
			return err
		}
		cold = append(cold, x)
	}
	b.Add(Row{What: "cold attach (the image was never on the node), first request to first bytes read", Unit: "ms", Samples: cold.each(func(x traced) float64 { return x.total() })})
	b.Add(Row{What: "executed in a cold attach", Unit: "commands", Samples: cold.commands(), Note: "By program: " + cold.programs() + "."})
	b.Add(Row{What: "share of a cold attach spent in fork and exec", Unit: "%", Samples: cold.share(), Note: "Most of it is the login itself, which the command waits for."})
	return nil
}

// addAnatomy adds a row for each part of a warm attach.
func addAnatomy(b *Bench, xs traces) {
	part := func(what string, of func(traced) float64) {
		b.Add(Row{What: "of a warm attach: " + what, Unit: "ms", Samples: xs.each(of)})
	}
	part("POST attachments (reserve)", func(x traced) float64 { return x.reserve })
	part("PUT attachment (connect), control plane and its database", func(x traced) float64 { return x.connect - x.bus - x.agent - x.inSteps() })
	part("connect, message bus and codings", func(x traced) float64 { return x.bus })
	part("connect, agent: two looks at the node, plan, waits", func(x traced) float64 { return x.agent })
	kinds := map[string]bool{}
	for _, x := range xs {
		for k := range x.steps {
			kinds[k] = true
		}
	}
	for _, k := range slices.Sorted(maps.Keys(kinds)) {
		part("connect, agent: "+k, func(x traced) float64 { return x.steps[k] })
	}
	part("os-complete", func(x traced) float64 { return x.complete })
	part("open the device, read 4 KiB, and the way there and back", func(x traced) float64 { return x.read })
}

// traced is an attach or a detach with what the logs say of it.
type traced struct {
	attached
	anatomy
}

func (x traced) inSteps() (ms float64) {
	for _, v := range x.steps {
		ms += v
	}
	return ms
}

type traces []traced

func (xs traces) each(of func(traced) float64) []float64 {
	out := make([]float64, len(xs))
	for i, x := range xs {
		out[i] = of(x)
	}
	return out
}

func (xs traces) commands() []float64 {
	return xs.each(func(x traced) float64 {
		n := 0
		for _, k := range x.commands {
			n += k
		}
		return float64(n)
	})
}

// share of the operations' time in which external commands ran, in %.
func (xs traces) share() []float64 {
	return xs.each(func(x traced) float64 { return 100 * x.executed / x.total() })
}

// programs says what was executed in all of xs: name, how often, and the mean of one.
func (xs traces) programs() string {
	count := map[string]int{}
	var ms float64
	for _, x := range xs {
		for p, n := range x.commands {
			count[p] += n
		}
		ms += x.executed
	}
	var out []string
	all := 0
	for _, p := range slices.Sorted(maps.Keys(count)) {
		all += count[p]
		out = append(out, fmt.Sprintf("%s ×%d", p, count[p]))
	}
	if all == 0 {
		return "none"
	}
	return fmt.Sprintf("%s in %d attaches, %s ms each on average", strings.Join(out, ", "), len(xs), number(ms/float64(all)))
}

// tracer attaches and detaches, and reads what the logs say meanwhile.
type tracer struct {
	s              *warmSite
	agent, control logTail
}

func (t *tracer) skip() error {
	if err := t.agent.skip(); err != nil {
		return err
	}
	return t.control.skip()
}

// cycle attaches a volume and detaches it.
func (t *tracer) cycle(ctx context.Context, volume string) (up, down traced, err error) {
	if up.attached, err = t.s.attach(ctx, volume); err != nil {
		return up, down, err
	}
	if up.anatomy, err = t.look(ctx, volume); err != nil {
		return up, down, err
	}
	down.attached = up.attached
	if _, err = t.s.detach(ctx, up.attached); err != nil {
		return up, down, err
	}
	down.anatomy, err = t.look(ctx, volume)
	return up, down, err
}

func (t *tracer) look(ctx context.Context, volume string) (anatomy, error) {
	agent, err := t.agent.upTo(ctx, logApplied, volume)
	if err != nil {
		return anatomy{}, err
	}
	control, err := t.control.upTo(ctx, logAnswered, volume)
	if err != nil {
		return anatomy{}, err
	}
	return dissect(volume, agent, control)
}

// createMany makes volumes of the warm image, which are available at once.
func (s *warmSite) createMany(ctx context.Context, n int) ([]string, error) {
	ids := make([]string, n)
	for i := range ids {
		v, err := s.create(ctx, s.image)
		if err != nil {
			return nil, err
		}
		ids[i] = v
	}
	return ids, nil
}

// debugAgent starts the node's agent anew with its log at debug.
func (s *warmSite) debugAgent(ctx context.Context) error {
	if err := s.c.StopAgent(ctx, warmHost); err != nil {
		return err
	}
	if err := s.c.Configure(warmHost, map[string]string{"DEFAULT.log_level": "debug"}); err != nil {
		return err
	}
	if err := s.c.StartAgent(ctx, warmHost); err != nil {
		return err
	}
	// It serves as soon as it is on the bus, which an attach finds out.
	v, err := s.create(ctx, s.image)
	if err != nil {
		return err
	}
	var last error
	err = cluster.Wait(ctx, 30*time.Second, "the agent to serve again", func() (bool, error) {
		var x attached
		if x, last = s.attach(ctx, v); last != nil {
			return false, ctx.Err()
		}
		_, err := s.detach(ctx, x)
		return true, err
	})
	if err != nil {
		return fmt.Errorf("%w: %w", err, last)
	}
	return nil
}

// reaped is how many page faults the agent's children have had that have ended (cminflt in
// proc_pid_stat(5)): it stays as it is as long as no child ends.
func (s *warmSite) reaped(ctx context.Context) (uint64, error) {
	ps, err := s.node.Processes(ctx)
	if err != nil {
		return 0, err
	}
	for _, p := range ps {
		if p.Name == "vmthunder-node" && p.Running {
			text, err := s.node.ReadFile(ctx, fmt.Sprintf("/proc/%d/stat", p.Pid))
			if err != nil {
				return 0, err
			}
			return parseReaped(text)
		}
	}
	return 0, fmt.Errorf("no agent runs at %s", warmHost)
}

func parseReaped(stat string) (n uint64, err error) {
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:]) // the name, in parentheses, may hold anything
	if len(f) < 9 {
		return 0, fmt.Errorf("stat of a process: %q", stat)
	}
	_, err = fmt.Sscan(f[8], &n) // field 11; the first of f is field 3
	return n, err
}
