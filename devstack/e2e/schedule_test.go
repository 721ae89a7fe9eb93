//go:build lab

package e2e

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/vmthunder/vmthunder/devstack/cluster"
	"github.com/vmthunder/vmthunder/devstack/lab"
	"github.com/vmthunder/vmthunder/devstack/lab/load"
	"github.com/vmthunder/vmthunder/devstack/lab/nodeinit"
)

var (
	scheduleSeed = flag.Uint64("faults.seed", 1, "of the first schedule of faults; each next one has the next seed")
	schedules    = flag.Int("faults.schedules", 1, "schedules of faults to run")
)

// Schedules of faults, alone and in pairs, under loads on all nodes that know of each block what it must
// hold. Whatever happens, no acknowledged write is lost, no wrong byte is read, no load sees an error unless
// its own node lost its power, and afterwards everything stands as the rows say without anybody's help.
func TestFaultSchedules(t *testing.T) {
	f := newFaults(t)
	sum := &tally{faults: map[string]int{}}
	defer func() { t.Log("\n" + sum.String()) }()
	for i := range uint64(*schedules) { //nolint:gosec // it is not negative
		seed := *scheduleSeed + i
		plan := newPlan(seed)
		ok := t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Logf("%s\nonce more: make test-faults SEED=%d SCHEDULES=1", plan, seed)
			s := &schedule{faults: f.on(t), plan: plan, sum: sum}
			s.site.restore(t)
			s.run()
			s.clean(t)
		})
		if !ok {
			f.sweep(t) // what it has left is not the next one's
			f = newFaults(t)
		}
	}
}

// plan is what a seed decides: nothing of it depends on what happens.
type plan struct {
	seed   uint64
	degree int
	nodes  []string // that attach a volume, in this order
	events []event
}

// event is one fault.
type event struct {
	kind  string
	node  string // that it strikes, "" if it is none
	after time.Duration
	lasts time.Duration
}

func (e event) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s", e.kind, e.node)) + fmt.Sprintf(" after %.1f s for %.1f s", e.after.Seconds(), e.lasts.Seconds())
}

func (p plan) String() string {
	var out []string
	for _, e := range p.events {
		out = append(out, e.String())
	}
	return fmt.Sprintf("seed %d, degree %d, %s: %s", p.seed, p.degree, strings.Join(p.nodes, " "), strings.Join(out, "; "))
}

func newPlan(seed uint64) plan {
	rng := rand.New(rand.NewPCG(seed, 20140101))
	p := plan{seed: seed, degree: 1 + rng.IntN(2), nodes: []string{n1, n2, n3, tgt}}
	rng.Shuffle(len(p.nodes), func(i, j int) { p.nodes[i], p.nodes[j] = p.nodes[j], p.nodes[i] })
	p.nodes = p.nodes[:3]
	struck := map[string]bool{}
	for range 1 + rng.IntN(2) {
		k := troubles[rng.IntN(len(troubles))]
		e := event{kind: k.name, after: time.Duration(rng.IntN(3000)) * time.Millisecond, lasts: time.Duration(500+rng.IntN(8000)) * time.Millisecond}
		node := append([]string{origin}, p.nodes...)[rng.IntN(len(p.nodes)+1)]
		things := k.strikes
		switch {
		case k.strikes == nil:
			e.node, things = node, []string{node}
		case slices.Contains(k.strikes, everything):
			things = append([]string{origin}, p.nodes...)
		}
		if slices.ContainsFunc(things, func(thing string) bool { return struck[thing] }) {
			continue // two faults of one thing are one too many
		}
		for _, thing := range things {
			struck[thing] = true
		}
		p.events = append(p.events, e)
	}
	return p
}

// trouble is a kind of fault.
type trouble struct {
	name    string
	strikes []string // what is out of order meanwhile; nil: one node
	// begin does it; the function that it returns undoes it.
	begin func(s *schedule, e event) (end func() error, err error)
	// mute: whoever is on the node is gone with it.
	mute func(s *schedule, e event) []string
}

func (s *schedule) ctx() context.Context { return limit(s.t, 2*time.Minute) }

func nobody(*schedule, event) []string { return nil }

// everything is struck by what strikes all nodes.
const everything = "everything"

var troubles = []trouble{
	{"power cut", nil, func(s *schedule, e event) (func() error, error) {
		return func() error { return s.boot(e.node) }, s.node(s.t, e.node).Kill(s.ctx())
	}, func(_ *schedule, e event) []string { return []string{e.node} }},
	{"power cut everywhere", []string{everything}, func(s *schedule, _ event) (func() error, error) {
		all := append([]string{origin}, s.plan.nodes...)
		for _, n := range all {
			if err := s.node(s.t, n).Kill(s.ctx()); err != nil {
				return nil, err
			}
		}
		return func() error {
			var g errgroup.Group
			for _, n := range all {
				g.Go(func() error { return s.boot(n) })
			}
			return g.Wait()
		}, nil
	}, func(s *schedule, _ event) []string { return append([]string{origin}, s.plan.nodes...) }},
	{"node hangs", nil, func(s *schedule, e event) (func() error, error) {
		n := s.node(s.t, e.node)
		return n.Resume, n.Pause()
	}, nobody},
	{"agent killed", nil, func(s *schedule, e event) (func() error, error) {
		n := s.node(s.t, e.node)
		if err := n.Signal(s.ctx(), "vmthunder-node", 9); err != nil {
			return nil, err
		}
		_, err := n.Wait(s.ctx(), "vmthunder-node")
		return func() error { return s.c.StartAgent(s.ctx(), e.node) }, err
	}, nobody},
	{"agent hangs", nil, func(s *schedule, e event) (func() error, error) {
		n := s.node(s.t, e.node)
		return func() error { return n.Signal(s.ctx(), "vmthunder-node", 18) }, n.Signal(s.ctx(), "vmthunder-node", 19)
	}, nobody},
	{"api replica killed", []string{"api"}, func(s *schedule, e event) (func() error, error) {
		i := int(e.lasts.Milliseconds()) % 2
		return func() error { return s.startAPI(i) }, s.c.API(i).Kill(s.ctx())
	}, nobody},
	{"both api replicas killed", []string{"api"}, func(s *schedule, _ event) (func() error, error) {
		for i := range 2 {
			if err := s.c.API(i).Kill(s.ctx()); err != nil {
				return nil, err
			}
		}
		return func() error {
			for i := range 2 {
				if err := s.startAPI(i); err != nil {
					return err
				}
			}
			return nil
		}, nil
	}, nobody},
	{"cable out", nil, func(s *schedule, e event) (func() error, error) {
		return func() error { return s.lab.Mend(s.ctx(), e.node) }, s.lab.Cut(s.ctx(), e.node)
	}, nobody},
	{"sends nothing", nil, disturb("loss 100%"), nobody},
	{"30 % loss", nil, disturb("loss 30%"), nobody},
	{"200 ms delay", nil, disturb("delay 200ms"), nobody},
	{"1 Mbit/s", nil, disturb("rate 1mbit"), nobody},
	{"targets off", nil, func(s *schedule, e event) (func() error, error) {
		// Whoever reads from this node is thrown out, and can't log in until they are on again.
		script := func(on string) string {
			return "for d in /sys/kernel/config/target/iscsi/iqn*/tpgt_1/enable; do [ ! -e $d ] || echo " + on + " >$d; done"
		}
		turn := func(on string) error {
			_, err := s.node(s.t, e.node).Run(s.ctx(), "sh", "-c", script(on))
			return err
		}
		return func() error { return turn("1") }, turn("0")
	}, nobody},
	{"database restarted", []string{"database"}, func(s *schedule, _ event) (func() error, error) {
		return func() error { return s.lab.Start(s.ctx(), lab.Postgres) }, s.lab.Stop(s.ctx(), lab.Postgres)
	}, nobody},
	{"database hangs", []string{"database"}, func(s *schedule, _ event) (func() error, error) {
		return func() error { return s.lab.Resume(lab.Postgres) }, s.lab.Pause(lab.Postgres)
	}, nobody},
	{"message bus restarted", []string{"bus"}, func(s *schedule, _ event) (func() error, error) {
		return func() error { return s.lab.Start(s.ctx(), lab.Rabbit) }, s.lab.Stop(s.ctx(), lab.Rabbit)
	}, nobody},
	{"message bus hangs", []string{"bus"}, func(s *schedule, _ event) (func() error, error) {
		return func() error { return s.lab.Resume(lab.Rabbit) }, s.lab.Pause(lab.Rabbit)
	}, nobody},
	{"clock an hour ahead", nil, func(s *schedule, e event) (func() error, error) {
		turn := func(by string) error {
			_, err := s.node(s.t, e.node).Run(s.ctx(), "sh", "-c", "date -s @$(($(date +%s) "+by+" 3600))")
			return err
		}
		return func() error { return turn("-") }, turn("+")
	}, nobody},
}

func disturb(how string) func(s *schedule, e event) (func() error, error) {
	return func(s *schedule, e event) (func() error, error) {
		return func() error { return nil }, s.lab.Disturb(s.ctx(), e.node, how, e.lasts)
	}
}

// schedule is a plan that is carried out.
type schedule struct {
	*faults
	plan  plan
	sum   *tally
	disks []*disk
}

// disk is a volume with its loads.
type disk struct {
	attached
	record *load.Record
	base   string
	blocks int
	muted  bool // its node lost its power in this schedule

	stop  chan struct{}
	ended chan error
}

// boot a node and start its agent.
func (s *schedule) boot(node string) error {
	if err := s.node(s.t, node).Boot(s.ctx()); err != nil {
		return err
	}
	return s.c.StartAgent(s.ctx(), node)
}

// startAPI starts a replica of the control plane, again and again as systemd does: it ends where there is
// no database.
func (s *schedule) startAPI(i int) error {
	return cluster.Wait(s.ctx(), time.Minute, "a replica of the control plane to start", func() (bool, error) {
		return s.c.StartAPI(s.ctx(), i) == nil, nil
	})
}

// baseAt puts the content of an image where a node can read it, and returns the path there.
func (s *schedule) baseAt(node string, img testImage) string {
	s.t.Helper()
	name := img.id + ".raw"
	path := filepath.Join(s.node(s.t, node).SharePath(), name)
	if err := os.WriteFile(path, img.bytes, 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = os.Remove(path) })
	return filepath.Join(nodeinit.ShareDir, name)
}

func (s *schedule) run() {
	t := s.t
	img := s.image(t, 32*mib)
	var as []attached
	for i, n := range s.plan.nodes {
		v := s.create(t, img.id)
		if i == 0 {
			s.setDegree(t, img.id, s.plan.degree)
		}
		as = append(as, s.attach(t, v, n))
		s.disks = append(s.disks, &disk{attached: as[i], record: load.NewRecord(), base: s.baseAt(n, img), blocks: 40 * mib / load.BlockSize})
	}
	blank := s.newAttached(t, "", s.plan.nodes[0])
	s.disks = append(s.disks, &disk{attached: blank, record: load.NewRecord(), blocks: 8 * mib / load.BlockSize})
	as = append(as, blank)
	s.treeStands(t, img.id, s.plan.degree, slices.Clone(s.plan.nodes)...)

	for _, d := range s.disks {
		s.begin(d, false)
	}
	s.progress(20)
	s.strike()
	for _, d := range s.disks {
		if d.muted {
			if err := <-d.ended; err == nil {
				t.Errorf("the load of %s at %s has gone on without its node", d.volume, d.node)
			}
			s.waitDevice(t, d.attached)
			s.begin(d, true)
		}
	}
	s.waitNodes(t, len(s.lab.Nodes()))
	s.settled(t)
	s.treeStands(t, img.id, s.plan.degree, slices.Clone(s.plan.nodes)...)
	s.progress(20)
	s.healthy(t)
	for _, d := range s.disks {
		s.end(d)
		s.begin(d, true)
		<-d.record.Ready
		s.end(d)
		s.judge(d)
	}
	// A volume that is new finds everything as it should be.
	fresh := s.newAttached(t, img.id, s.plan.nodes[len(s.plan.nodes)-1])
	s.same(t, fresh.node, fresh.device, 0, img.bytes)
	s.drop(t, append(as, fresh)...)
}

// begin a load on a disk.
func (s *schedule) begin(d *disk, scan bool) {
	n := s.node(s.t, d.node)
	d.stop, d.ended = make(chan struct{}), make(chan error, 1)
	o := load.Options{
		Device: d.device, Volume: uuid.MustParse(d.volume), Blocks: d.blocks, Base: d.base, Seed: s.plan.seed,
		First: d.record.Last + 1000, Gap: 10 * time.Millisecond, Scan: scan, Count: -1,
	}
	d.record.Begin(scan)
	stop, ended := d.stop, d.ended
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	s.t.Cleanup(cancel)
	go func() {
		whole, err := n.Load(ctx, o, d.record, stop)
		if err == nil && !whole {
			err = fmt.Errorf("the load at %s was cut short", n.Name())
		}
		ended <- err
	}()
}

// end the load of a disk.
func (s *schedule) end(d *disk) {
	s.t.Helper()
	close(d.stop)
	if err := <-d.ended; err != nil {
		s.t.Errorf("volume %s: %v", d.volume, err)
	}
}

// progress waits until each load has done some more.
func (s *schedule) progress(more int) {
	s.t.Helper()
	for _, d := range s.disks {
		want := d.record.Done() + more
		until(s.t, 90*time.Second, fmt.Sprintf("the load of %s at %s to get on", d.volume, d.node), func() (bool, error) {
			select {
			case err := <-d.ended:
				return false, fmt.Errorf("it is over: %w", err)
			default:
				return d.record.Done() >= want, nil
			}
		})
	}
}

// strike carries out the plan's events, and returns when all are undone.
func (s *schedule) strike() {
	var wg sync.WaitGroup
	for _, e := range s.plan.events {
		k := troubles[slices.IndexFunc(troubles, func(k trouble) bool { return k.name == e.kind })]
		for _, n := range k.mute(s, e) {
			for _, d := range s.disks {
				d.muted = d.muted || d.node == n
			}
		}
		s.sum.add(e.kind)
		wg.Go(func() {
			time.Sleep(e.after)
			end, err := k.begin(s, e)
			if err != nil {
				s.t.Errorf("%s: %v", e, err)
				return
			}
			time.Sleep(e.lasts)
			if err := end(); err != nil {
				s.t.Errorf("end of %s: %v", e, err)
			}
		})
	}
	wg.Wait()
}

// judge what the loads of a disk have seen.
func (s *schedule) judge(d *disk) {
	s.t.Helper()
	r := d.record
	for _, w := range r.Wrong[:min(len(r.Wrong), 10)] {
		s.t.Errorf("volume %s at %s: block %s", d.volume, d.node, w)
	}
	if len(r.Errors) > 0 && !d.muted {
		s.t.Errorf("volume %s at %s: %d errors, the first: %s", d.volume, d.node, len(r.Errors), r.Errors[0])
	}
	s.sum.count(r, d.muted)
}

// tally is what all schedules together have come to.
type tally struct {
	mu                            sync.Mutex
	faults                        map[string]int
	loads, writes, reads          int
	lost, wrong, errors, excepted int
	longest                       []time.Duration // of each load: the longest operation
}

func (y *tally) add(kind string) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.faults[kind]++
}

func (y *tally) count(r *load.Record, muted bool) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.loads++
	y.writes += r.Writes
	y.reads += r.Reads
	for _, w := range r.Wrong {
		if strings.Contains(w, "lost: ") {
			y.lost++
		} else {
			y.wrong++
		}
	}
	if muted {
		y.excepted += len(r.Errors)
	} else {
		y.errors += len(r.Errors)
		y.longest = append(y.longest, slices.Max(r.Waits))
	}
}

func (y *tally) String() string {
	y.mu.Lock()
	defer y.mu.Unlock()
	var b strings.Builder
	faults := 0
	for _, n := range y.faults {
		faults += n
	}
	fmt.Fprintf(&b, "%d loads, %d faults; %d writes acknowledged, %d reads compared\n", y.loads, faults, y.writes, y.reads)
	fmt.Fprintf(&b, "lost writes %d, wrong blocks %d, errors %d (and %d on nodes that lost their power)\n", y.lost, y.wrong, y.errors, y.excepted)
	if len(y.longest) > 0 {
		slices.Sort(y.longest)
		at := func(p int) time.Duration { return y.longest[(len(y.longest)-1)*p/100].Round(time.Millisecond) }
		fmt.Fprintf(&b, "longest operation of a load: median %v, p99 %v, most %v\n", at(50), at(99), at(100))
	}
	kinds := make([]string, 0, len(y.faults))
	for k, n := range y.faults {
		kinds = append(kinds, fmt.Sprintf("%s %d", k, n))
	}
	slices.Sort(kinds)
	b.WriteString(strings.Join(kinds, ", "))
	return b.String()
}
