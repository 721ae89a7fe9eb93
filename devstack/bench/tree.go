package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/devstack/lab"
	placing "github.com/vmthunder/vmthunder/scheduler/tree"
)

var tree = Case{Name: "tree", Title: "10,000 nodes join one image's tree", Run: runTree}

const (
	treeNodes  = 10_000
	treeDegree = 2     // the product's own
	treeWindow = 1_000 // joins that the first and the last are compared by
	treeCount  = 50    // joins whose statements are counted, at each end
)

// runTree places nodes with the scheduler and a real Postgres. The nodes are a fake that
// has at once what its document says; everything up to it is the product's.
func runTree(ctx context.Context, b *Bench) (err error) {
	l, err := lab.Up(ctx, lab.Options{Name: "bench-tree", Services: []lab.Service{lab.Postgres}, Owned: true, Progress: b.Progress})
	if err != nil {
		return err
	}
	defer func() {
		down, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, l.Down(down))
	}()
	if err := treeTemplate(ctx, l); err != nil {
		return err
	}
	if err := treePure(b); err != nil {
		return err
	}
	if err := treeBursts(ctx, b, l); err != nil {
		return err
	}
	return treeJoins(ctx, b, l)
}

// treePure measures the decision alone, without a database.
func treePure(b *Bench) error {
	root := model.Member{Host: "origin", Role: model.RoleRoot, State: model.MemberActive}
	o := placing.Observed{Degree: treeDegree, Members: []model.Member{root}, Nodes: map[string]model.Node{"origin": {Host: "origin", Alive: true}}}
	var hosts []placing.Host
	for i := range treeNodes {
		n := treeNode(i)
		hosts = append(hosts, placing.Host{Name: n.Host, Rack: n.Rack, AvailabilityZone: n.AvailabilityZone})
		o.Nodes[n.Host] = model.Node{Host: n.Host, Alive: true, Rack: n.Rack, AvailabilityZone: n.AvailabilityZone}
	}
	row := Row{What: "the decision alone, all in one plan, CPU", Unit: "ms", Note: "scheduler/tree's pure function, without a database"}
	for range b.Runs {
		runtime.GC()
		start := ownCPU()
		plan, err := placing.Join(o, hosts)
		if err != nil {
			return err
		}
		row.Samples = append(row.Samples, millis(ownCPU()-start))
		if n := len(plan.Changes); n != treeNodes {
			return fmt.Errorf("the plan places %d of %d nodes", n, treeNodes)
		}
	}
	b.Add(row)
	return nil
}

// treeBursts places all nodes at once, as `vmthunder image warm` does.
func treeBursts(ctx context.Context, b *Bench, l *lab.Lab) error {
	own := Row{What: "all in one burst, CPU of the control plane", Unit: "s", Goal: AtMost(1)}
	postgres := Row{What: "all in one burst, CPU of Postgres", Unit: "s"}
	wall := Row{What: "all in one burst, until written", Unit: "s"}
	statements := Row{What: "all in one burst, statements", Unit: ""}
	documents := Row{
		What: "documents for all of them, CPU of the control plane", Unit: "s",
		Note: "each node's document read from the database and computed, after the burst, in the background; not in the row above",
	}
	for i := range b.Runs {
		s, err := newTreeSite(ctx, l, fmt.Sprintf("burst%d", i), i == 0)
		if err != nil {
			return err
		}
		err = func() error {
			defer s.close()
			runtime.GC()
			start, cpu, pg, n := time.Now(), ownCPU(), s.postgresCPU(), s.statements()
			if _, err := s.svc.Warm(ctx, s.image, s.hosts); err != nil {
				return err
			}
			if i == 0 {
				statements.Samples = append(statements.Samples, float64(s.statements()-n))
			}
			own.Samples = append(own.Samples, (ownCPU() - cpu).Seconds())
			postgres.Samples = append(postgres.Samples, (s.postgresCPU() - pg).Seconds())
			wall.Samples = append(wall.Samples, time.Since(start).Seconds())
			if err := s.sound(ctx, treeNodes+1); err != nil || i > 0 {
				return err
			}
			runtime.GC()
			cpu = ownCPU()
			if err := s.deliver(ctx, treeNodes); err != nil {
				return err
			}
			documents.Samples = append(documents.Samples, (ownCPU() - cpu).Seconds())
			return nil
		}()
		if err != nil {
			return err
		}
	}
	for _, r := range []Row{own, postgres, wall, statements, documents} {
		b.Add(r)
	}
	return nil
}

// treeJoins has a volume connected on one node after the other, each of which joins the
// tree by that, while the tree is small and when it is large. Between, nodes join in bursts.
func treeJoins(ctx context.Context, b *Bench, l *lab.Lab) error {
	s, err := newTreeSite(ctx, l, "joins", false)
	if err != nil {
		return err
	}
	defer s.close()
	counted, err := s.counted(ctx, l)
	if err != nil {
		return err
	}
	defer counted.close()
	stop := s.run(ctx)
	defer stop()

	late := treeNodes - treeWindow
	first, err := s.window(ctx, s.hosts[:treeWindow])
	if err != nil {
		return err
	}
	early, err := counted.count(ctx, s.hosts[treeWindow:treeWindow+treeCount])
	if err != nil {
		return err
	}
	for hosts := range slices.Chunk(s.hosts[treeWindow+treeCount:late-treeCount], treeWindow) {
		if _, err := s.svc.Warm(ctx, s.image, hosts); err != nil {
			return err
		}
	}
	if err := s.settled(ctx); err != nil {
		return err
	}
	statements, err := counted.count(ctx, s.hosts[late-treeCount:late])
	if err != nil {
		return err
	}
	last, err := s.window(ctx, s.hosts[late:])
	if err != nil {
		return err
	}
	if err := s.sound(ctx, treeNodes+1); err != nil {
		return err
	}
	b.Add(Row{What: "one by one, the first 1,000", Unit: "ms", Samples: first.took, Note: "a volume's whole connection, the documents of those concerned included; the nodes answer at once. " +
		"Between the first and the last 1,000 the others join in bursts"})
	b.Add(Row{What: "one by one, the last 1,000", Unit: "ms", Samples: last.took})
	b.Add(Row{What: "one by one, median of the last over that of the first", Unit: "×", Goal: AtMost(1.3), Samples: []float64{Quantile(last.took, 0.5) / Quantile(first.took, 0.5)}})
	b.Add(Row{What: "one by one, CPU of the control plane each, the first 1,000", Unit: "ms", Samples: []float64{first.own}})
	b.Add(Row{What: "one by one, CPU of the control plane each, the last 1,000", Unit: "ms", Samples: []float64{last.own}})
	b.Add(Row{What: "one by one, CPU of Postgres each, the first 1,000", Unit: "ms", Samples: []float64{first.postgres}})
	b.Add(Row{What: "one by one, CPU of Postgres each, the last 1,000", Unit: "ms", Samples: []float64{last.postgres}})
	b.Add(Row{What: "one by one, statements each, after the first 1,000", Unit: "", Samples: early})
	b.Add(Row{What: "one by one, statements each, before the last 1,000", Unit: "", Samples: statements, Goal: AtMost(slices.Max(early))})
	return nil
}

// joins that were measured, in milliseconds.
type joins struct {
	took          []float64
	own, postgres float64 // CPU of each
}

// window connects a volume on each host.
func (s *treeSite) window(ctx context.Context, hosts []string) (joins, error) {
	var j joins
	ids, err := s.attachments(ctx, len(hosts))
	if err != nil {
		return j, err
	}
	runtime.GC()
	own, postgres := ownCPU(), s.postgresCPU()
	for i, host := range hosts {
		start := time.Now()
		if err := s.connect(ctx, ids[i], host); err != nil {
			return j, err
		}
		j.took = append(j.took, millis(time.Since(start)))
	}
	j.own, j.postgres = millis(ownCPU()-own)/float64(len(hosts)), millis(s.postgresCPU()-postgres)/float64(len(hosts))
	return j, nil
}

// count connects a volume on each host and counts the statements that takes.
func (s *treeSite) count(ctx context.Context, hosts []string) ([]float64, error) {
	ids, err := s.attachments(ctx, len(hosts))
	if err != nil {
		return nil, err
	}
	var out []float64
	for i, host := range hosts {
		before := s.statements()
		if err := s.connect(ctx, ids[i], host); err != nil {
			return nil, err
		}
		out = append(out, float64(s.statements()-before))
	}
	return out, nil
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// sound tells what is wrong with the tree that has come about.
func (s *treeSite) sound(ctx context.Context, want int) error {
	ms, err := s.store.Members(ctx, s.image.ID)
	if err != nil {
		return err
	}
	depth := 0
	for _, m := range ms {
		depth = max(depth, m.Depth)
	}
	switch bad := placing.Check(ms, treeDegree); {
	case len(bad) > 0:
		return fmt.Errorf("the tree is not sound: %s (%d more)", bad[0], len(bad)-1)
	case len(ms) != want:
		return fmt.Errorf("the tree has %d members, not %d", len(ms), want)
	case depth > placing.DepthBound(want, treeDegree):
		return fmt.Errorf("the tree is %d deep, more than %d", depth, placing.DepthBound(want, treeDegree))
	}
	return nil
}

// connect brings a volume to a host.
func (s *treeSite) connect(ctx context.Context, attachment uuid.UUID, host string) error {
	c := model.Connector{Host: host, Initiator: "iqn.2026-01.bench:" + host}
	_, err := s.svc.Connect(ctx, attachment, c, []byte(`{"host":"`+host+`","initiator":"iqn.2026-01.bench:`+host+`"}`), "rw")
	return err
}
