//go:build lab

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jmoiron/sqlx"
	_ "github.com/lib/pq" // the driver of sqlx.ConnectContext
	"golang.org/x/sync/errgroup"

	"github.com/vmthunder/vmthunder/db"
	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/devstack/cluster"
	"github.com/vmthunder/vmthunder/devstack/lab"
	"github.com/vmthunder/vmthunder/scheduler/tree"
)

const mib = 1 << 20

// Nodes of the laboratory. The origin holds no volumes; tgt is the one with tgtd, and
// vmhost the one with the memory for a virtual machine.
const (
	origin = "origin"
	n1     = "node1"
	n2     = "node2"
	n3     = "node3"
	vmhost = "vmhost"
	tgt    = "tgt"
)

func nodeSpecs() []lab.NodeSpec {
	return []lab.NodeSpec{
		{Name: origin, Memory: 384}, {Name: n1, Memory: 384}, {Name: n2, Memory: 320}, {Name: n3, Memory: 320},
		{Name: vmhost, Memory: 1024}, {Name: tgt, Memory: 256, Tgtd: true},
	}
}

// site is the laboratory with the product in it.
type site struct {
	lab   *lab.Lab
	c     *cluster.Cluster
	admin *cluster.Client // role admin
	nova  *cluster.Client // admin with Nova's service token, as detaching wants it
	store *db.Store       // to look at rows, and at nothing else
	sql   *sqlx.DB
}

// started is the one site of this test process.
var started struct {
	sync.Once
	s   *site
	err error
}

// current returns the site with every node alive, and has the test end with an empty one.
func current(t *testing.T) *site {
	t.Helper()
	started.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
		defer cancel()
		started.s, started.err = start(ctx)
	})
	if started.err != nil {
		t.Fatal(started.err)
	}
	s := started.s
	from := s.logEnds()
	t.Cleanup(func() {
		if !t.Failed() {
			s.clean(t)
		}
		if t.Failed() {
			s.showLogs(t, from)
			s.sweep(t)
		}
	})
	s.restore(t)
	return s
}

func start(ctx context.Context) (*site, error) {
	l, err := lab.FromEnv()
	if err != nil {
		return nil, err
	}
	if err := wipe(ctx, l); err != nil {
		return nil, err
	}
	have := map[string]bool{}
	for _, n := range l.Nodes() {
		have[n.Name()] = true
	}
	for _, spec := range nodeSpecs() {
		if !have[spec.Name] {
			if _, err := l.AddNode(ctx, spec); err != nil {
				return nil, err
			}
		}
	}
	c, err := cluster.Start(ctx, l, cluster.Options{
		Origins: []string{origin}, Debug: true, Replicas: 2, Database: "vmthunder",
		Progress: func(f string, a ...any) { fmt.Fprintf(os.Stderr, "e2e: "+f+"\n", a...) },
		SetNode: map[string]map[string]string{
			origin: {"node.compute": "false"},
			tgt:    {"node.target_helper": "tgtadm"},
		},
	})
	if err != nil {
		return nil, err
	}
	store, err := db.Open(ctx, l.DatabaseURL("vmthunder"), db.Options{})
	if err != nil {
		return nil, err
	}
	rows, err := sqlx.ConnectContext(ctx, "postgres", l.DatabaseURL("vmthunder"))
	if err != nil {
		return nil, err
	}
	return &site{lab: l, c: c, admin: c.Admin(), nova: c.Nova(), store: store, sql: rows}, nil
}

// wipe makes a standing laboratory as good as new: whatever an earlier run has left is gone.
func wipe(ctx context.Context, l *lab.Lab) error {
	for i := range 4 {
		if p, err := l.HostProcess(fmt.Sprintf("vmthunder-api-%d", i)); err == nil {
			if err := p.Kill(ctx); err != nil {
				return err
			}
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	used := false
	for _, n := range l.Nodes() {
		if n.Running() {
			if ps, err := n.Processes(ctx); err == nil && len(ps) == 0 {
				continue // nothing was ever started here
			}
		}
		used = true
		g.Go(func() error { return blank(gctx, n) })
	}
	if used {
		// Its queues go with the broker: a document of the old site in them would count as
		// newer than those of the new one.
		g.Go(func() error {
			if err := l.Stop(gctx, lab.Rabbit); err != nil {
				return err
			}
			return l.Start(gctx, lab.Rabbit)
		})
	}
	return g.Wait()
}

// blank empties a node's disks and boots it.
func blank(ctx context.Context, n *lab.Node) error {
	if err := n.Kill(ctx); err != nil {
		return err
	}
	for letter, size := range map[byte]int64{'a': n.Spec().Pool, 'b': n.Spec().Cache} {
		for _, to := range []int64{0, size} {
			if err := os.Truncate(n.DiskPath(letter), to); err != nil {
				return err
			}
		}
	}
	if err := n.Boot(ctx); err != nil {
		return err
	}
	_, err := n.Run(ctx, "sh", "-c", "rm -rf /var/lib/vmthunder/images /var/lib/vmthunder/*.img; rm -rf /etc/iscsi/nodes/* /var/lib/iscsi/nodes/*")
	return err
}

// restore sees to it that everything runs.
func (s *site) restore(t *testing.T) {
	t.Helper()
	ctx := limit(t, 2*time.Minute)
	for i := range 2 {
		if !s.c.API(i).Running() {
			if err := s.c.StartAPI(ctx, i); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, n := range s.lab.Nodes() {
		if !n.Running() {
			if err := n.Boot(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if !s.agentRuns(t, n) {
			if err := s.c.StartAgent(ctx, n.Name()); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.waitNodes(t, len(s.lab.Nodes()))
}

func (s *site) agentRuns(t *testing.T, n *lab.Node) bool {
	t.Helper()
	ps, err := n.Processes(limit(t, time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range ps {
		if p.Name == "vmthunder-node" && p.Running {
			return true
		}
	}
	return false
}

func (s *site) waitNodes(t *testing.T, count int) {
	t.Helper()
	if err := s.c.WaitNodes(limit(t, 2*time.Minute), count); err != nil {
		t.Fatal(err)
	}
}

// sweep makes the site new after a failed test, so that the next one is judged by itself.
func (s *site) sweep(t *testing.T) {
	if os.Getenv("VMT_E2E_LEAVE") == "1" {
		return // for a look at what went wrong
	}
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	_, _ = s.store.Close(), s.sql.Close()
	for i := range 2 {
		_ = s.c.API(i).Kill(ctx)
	}
	s2, err := start(ctx)
	started.s, started.err = s2, err
	if err != nil {
		t.Errorf("the laboratory can't be made new after this failure: %v", err)
	}
}

// limit is a context for one thing that a test waits for.
func limit(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func (s *site) node(t testing.TB, name string) *lab.Node {
	t.Helper()
	n, err := s.lab.Node(name)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// run runs a shell script in a node and returns what it printed.
func (s *site) run(t testing.TB, node, script string) string {
	t.Helper()
	out, err := s.tryRun(t, node, script)
	if err != nil {
		t.Fatalf("%s: %s: %v", node, script, err)
	}
	return out
}

func (s *site) tryRun(t testing.TB, node, script string) (string, error) {
	r, err := s.node(t, node).Exec(limit(t, 2*time.Minute), lab.Command{Argv: []string{"sh", "-c", script}, Env: []string{"DM_DISABLE_UDEV=1"}}, nil)
	if err == nil && r.Code != 0 {
		err = fmt.Errorf("exit status %d: %s", r.Code, strings.TrimSpace(r.Stderr))
	}
	return strings.TrimSpace(r.Stdout), err
}

// until waits for something that gives no sign by itself.
func until(t testing.TB, d time.Duration, what string, done func() (bool, error)) {
	t.Helper()
	if err := cluster.Wait(limit(t, d+10*time.Second), d, what, done); err != nil {
		t.Fatal(err)
	}
}

// rows returns the first column of each row of a query as text.
func (s *site) rows(t testing.TB, query string, args ...any) []string {
	t.Helper()
	var out []string
	if err := s.sql.SelectContext(limit(t, time.Minute), &out, query, args...); err != nil {
		t.Fatal(err)
	}
	return out
}

// members are the rows of an image's tree.
func (s *site) members(t testing.TB, image string) []model.Member {
	t.Helper()
	ms, err := s.store.Members(limit(t, time.Minute), uuid.MustParse(image))
	if err != nil {
		t.Fatal(err)
	}
	return ms
}

func (s *site) member(t testing.TB, image, host string) model.Member {
	t.Helper()
	for _, m := range s.members(t, image) {
		if m.Host == host {
			return m
		}
	}
	return model.Member{}
}

// shape of a tree, as "a<b" for every member with its parent, in order.
func shape(ms []model.Member) string {
	var out []string
	for _, m := range ms {
		if m.Parent != nil {
			out = append(out, m.Host+"<"+*m.Parent)
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// treeStands waits until an image's tree has exactly these members below its root, all of
// them active, reading from the parent that their row names, and sound as tree.Check sees it.
func (s *site) treeStands(t testing.TB, image string, degree int, relays ...string) []model.Member {
	t.Helper()
	var ms []model.Member
	var why string
	slices.Sort(relays)
	err := cluster.Wait(limit(t, 2*time.Minute), 90*time.Second, "the tree to stand", func() (bool, error) {
		ms = s.members(t, image)
		var have []string
		why = ""
		for _, m := range ms {
			if m.Role == model.RoleRoot {
				continue
			}
			have = append(have, m.Host)
			switch {
			case m.State != model.MemberActive:
				why = fmt.Sprintf("%s is %s (%s)", m.Host, m.State, m.Error)
			case m.Parent == nil || m.ObservedParent != *m.Parent:
				why = fmt.Sprintf("%s reads from %q", m.Host, m.ObservedParent)
			}
		}
		slices.Sort(have)
		if !slices.Equal(have, relays) {
			why = fmt.Sprintf("members are %v, wanted %v", have, relays)
		}
		if bad := tree.Check(ms, degree); len(bad) > 0 {
			why = strings.Join(bad, "; ")
		}
		return why == "", nil
	})
	if err != nil {
		t.Fatalf("%v: %s; tree %s", err, why, shape(ms))
	}
	return ms
}

// create makes a volume, image "" for a blank one, and waits until it is available.
func (s *site) create(t testing.TB, image string) string {
	t.Helper()
	ctx := limit(t, 2*time.Minute)
	v, err := s.admin.CreateVolume(ctx, t.Name(), image, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.admin.WaitVolume(ctx, v.ID, "available", 90*time.Second); err != nil {
		t.Fatal(err)
	}
	return v.ID
}

// attached is a volume at a node.
type attached struct {
	volume, node, id, device string
}

// attach attaches a volume at a node as Nova would.
func (s *site) attach(t testing.TB, volume, node string) attached {
	t.Helper()
	a, err := s.tryAttach(t, volume, node)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (s *site) tryAttach(t testing.TB, volume, node string) (attached, error) {
	n := s.node(t, node)
	a, err := s.admin.Attach(limit(t, 2*time.Minute), volume, node, n.Initiator())
	if err != nil {
		return attached{}, fmt.Errorf("attach %s at %s: %w", volume, node, err)
	}
	if a.Device() == "" {
		return attached{}, fmt.Errorf("attach %s at %s: no device in %v", volume, node, a.ConnectionInfo)
	}
	return attached{volume: volume, node: node, id: a.ID, device: a.Device()}, nil
}

// newAttached is create and attach.
func (s *site) newAttached(t testing.TB, image, node string) attached {
	t.Helper()
	return s.attach(t, s.create(t, image), node)
}

func (s *site) detach(t testing.TB, as ...attached) {
	t.Helper()
	for _, a := range as {
		if err := s.nova.Detach(limit(t, time.Minute), a.id); err != nil {
			t.Fatalf("detach %s from %s: %v", a.volume, a.node, err)
		}
	}
}

// remove deletes volumes and waits until they are gone.
func (s *site) remove(t testing.TB, volumes ...string) {
	t.Helper()
	ctx := limit(t, 2*time.Minute)
	for _, v := range volumes {
		if err := s.admin.DeleteVolume(ctx, v); err != nil {
			t.Fatal(err)
		}
	}
	for _, v := range volumes {
		if err := s.admin.WaitGone(ctx, v, 90*time.Second); err != nil {
			t.Fatal(err)
		}
	}
}

// drop is detach and remove.
func (s *site) drop(t testing.TB, as ...attached) {
	t.Helper()
	s.detach(t, as...)
	var ids []string
	for _, a := range as {
		ids = append(ids, a.volume)
	}
	s.remove(t, ids...)
}

// reconfigure changes options of a node's agent, until the test ends.
func (s *site) reconfigure(t *testing.T, node string, set, back map[string]string) {
	t.Helper()
	apply := func(m map[string]string) error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		return errors.Join(s.c.Configure(node, m), s.c.StopAgent(ctx, node), s.c.StartAgent(ctx, node))
	}
	if err := apply(set); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := apply(back); err != nil {
			t.Error(err)
		}
	})
}
