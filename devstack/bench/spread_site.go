package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vmthunder/vmthunder/devstack/cluster"
	"github.com/vmthunder/vmthunder/devstack/lab"
)

// spreadSite is the laboratory with the image.
type spreadSite struct {
	c      *cluster.Cluster
	origin *lab.Node
	nodes  []*lab.Node
	file   string // the image on the host
	image  string // its id in Glance
	set    []extent
	sum    string // of the set
	degree int    // of trees that are made now
	star   *spreadStar

	progress func(format string, args ...any)
}

func newSpreadSite(ctx context.Context, c *cluster.Cluster, progress func(string, ...any)) (*spreadSite, error) {
	nodes := c.Lab.Nodes()
	s := &spreadSite{c: c, origin: nodes[0], nodes: nodes[1:], file: filepath.Join(c.Lab.Dir(), "spread.raw"), progress: progress}
	f, err := os.Create(s.file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := writeImage(f, spreadImage); err != nil {
		return nil, err
	}
	s.set = bootSet(spreadSeed, spreadImage, spreadSet)
	if s.sum, err = setSum(f, s.set); err != nil {
		return nil, err
	}
	if s.image, err = c.Lab.UploadImage(ctx, "spread", "raw", s.file); err != nil {
		return nil, err
	}
	s.star, err = newSpreadStar(ctx, s)
	return s, err
}

// spreadPatience is what a run may take longer than the slowest way would over the links
// alone, which is eight copies of the image.
const spreadPatience = 2 * time.Minute

// timed has all nodes read the set at once over links of the rate, with cold page caches
// everywhere.
func (s *spreadSite) timed(ctx context.Context, rate spreadRate, targets []spreadTarget) (r spreadResult, err error) {
	err = s.each(ctx, s.c.Lab.Nodes(), func(ctx context.Context, n *lab.Node) error {
		if _, err := n.Run(ctx, "sh", "-c", "sync; echo 3 >/proc/sys/vm/drop_caches"); err != nil {
			return err
		}
		return s.c.Lab.Shape(ctx, n.Name(), rate.name)
	})
	if err != nil {
		return r, err
	}
	// Somebody who never ends must not keep the rest of the benchmark from running.
	limit := spreadPatience + time.Duration(spreadNodes*spreadImage/rate.bytes*float64(time.Second))
	reading, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	before, cpu := s.kernelTime(ctx), cpuTimes()
	if r.seconds, err = readSet(reading, targets, s.set, s.sum); err != nil {
		return r, err
	}
	r.busy, r.kernels = cpuTimes().busySince(cpu), s.kernelTime(ctx)-before
	return r, s.each(ctx, s.c.Lab.Nodes(), func(ctx context.Context, n *lab.Node) error {
		return s.c.Lab.Shape(ctx, n.Name(), "off")
	})
}

// kernelTime is the processor time, in seconds, that the kernels of all nodes and what
// runs on them have used.
func (s *spreadSite) kernelTime(ctx context.Context) float64 {
	var sum float64
	for _, n := range s.c.Lab.Status(ctx).Nodes {
		sum += n.CPU
	}
	return sum
}

// each does something at all of the nodes at once.
func (s *spreadSite) each(ctx context.Context, nodes []*lab.Node, f func(context.Context, *lab.Node) error) error {
	g, gctx := errgroup.WithContext(ctx)
	for _, n := range nodes {
		g.Go(func() error { return f(gctx, n) })
	}
	return g.Wait()
}

// setDegree restarts the control plane with another degree, unless it has it.
func (s *spreadSite) setDegree(ctx context.Context, degree int) error {
	if s.degree == degree {
		return nil
	}
	if err := s.c.Configure("", map[string]string{"scheduler.tree_degree": strconv.Itoa(degree)}); err != nil {
		return err
	}
	if err := s.c.API(0).Stop(ctx, 20*time.Second); err != nil {
		return err
	}
	s.degree = degree
	return s.c.StartAPI(ctx, 0)
}

// readsOf a block device of a node, as its kernel counts them: the first number of
// /sys/block/NAME/stat, and the third, which is in sectors (Documentation/block/stat.rst).
func readsOf(ctx context.Context, n *lab.Node, disk string) (requests, bytes int64, err error) {
	text, err := n.ReadFile(ctx, "/sys/block/"+disk+"/stat")
	if err != nil {
		return 0, 0, err
	}
	f := strings.Fields(text)
	if len(f) < 3 {
		return 0, 0, fmt.Errorf("%s: %s has the statistics %q", n.Name(), disk, text)
	}
	requests, err = strconv.ParseInt(f[0], 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("%s: statistics of %s: %w", n.Name(), disk, err)
	}
	sectors, err := strconv.ParseInt(f[2], 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("%s: statistics of %s: %w", n.Name(), disk, err)
	}
	return requests, sectors * 512, nil
}
