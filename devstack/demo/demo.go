// Package demo shows the whole line once, on real kernels: an image in Glance, a hundred
// volumes made from it, volumes attached on every compute node, virtual machines booted
// from them, and what that cost the origin. It prints what it measured.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vmthunder/vmthunder/devstack/cluster"
	"github.com/vmthunder/vmthunder/devstack/lab"
)

// Options of the demo.
type Options struct {
	Compute  int // compute nodes, beside one origin
	Volumes  int
	Degree   int
	Image    string // name in Glance
	Keep     bool   // leave all of it standing
	Out      io.Writer
	Progress func(format string, args ...any)
}

// measured is what the report is made of.
type measured struct {
	up, image time.Duration
	volumes   creation
	attach    []attachment
	boots     []boot
	unique    int64 // bytes of distinct 4 KiB blocks that the origin sent
	tree      string
	members   []cluster.Member
	deleted   time.Duration
}

type attachment struct {
	node, device string
	id           string
	took         time.Duration
}

type boot struct {
	node string
	vm   lab.VMBoot
}

// Run runs the demo.
func Run(ctx context.Context, o Options) (err error) {
	begin := time.Now()
	specs := []lab.NodeSpec{{Name: "origin", Memory: 384}}
	for i := range o.Compute {
		specs = append(specs, lab.NodeSpec{Name: fmt.Sprintf("node%d", i+1), Memory: 1024})
	}
	l, err := lab.Up(ctx, lab.Options{
		Name: "demo", Services: lab.BaseServices(), Nodes: specs, Images: true, Owned: !o.Keep, Progress: o.Progress,
	})
	if err != nil {
		return err
	}
	if !o.Keep {
		defer func() {
			down, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
			defer cancel()
			o.Progress("taking the laboratory down")
			err = errors.Join(err, l.Down(down))
		}()
	}
	c, err := cluster.Start(ctx, l, cluster.Options{
		Origins: []string{"origin"}, Progress: o.Progress,
		Set:     map[string]string{"scheduler.tree_degree": strconv.Itoa(o.Degree)},
		SetNode: map[string]map[string]string{"origin": {"node.compute": "false"}},
	})
	if err != nil {
		return err
	}
	m := measured{up: time.Since(begin)}
	o.Progress("installing the extension of the openstack command")
	extension, err := cluster.InstallExtension(ctx, l)
	if err != nil {
		return err
	}
	if err := work(ctx, c, o, extension, &m); err != nil {
		return fmt.Errorf("%w\nlogs: %s", err, l.LogPath("vmthunder-api-0"))
	}
	report(o, m)
	if o.Keep {
		fmt.Fprintf(o.Out, "\nLeft standing in %[1]s. With bin/vmthunder-lab (make build) `vmthunder-lab -l %[1]s os volume list`\n"+
			"is the openstack command in there, `... status` tells what runs, `... down` removes all of it.\n", l.Dir())
	}
	return nil
}

func work(ctx context.Context, c *cluster.Cluster, o Options, extension string, m *measured) error {
	admin := c.Admin()
	image, err := imageID(ctx, c, o.Image)
	if err != nil {
		return err
	}

	o.Progress("importing %s by its first volume", o.Image)
	start := time.Now()
	first, err := admin.CreateVolume(ctx, "first", image, 1)
	if err != nil {
		return err
	}
	if _, err := admin.WaitVolume(ctx, first.ID, "available", 2*time.Minute); err != nil {
		return err
	}
	m.image = time.Since(start)

	if m.volumes, err = createAll(ctx, c, o, extension); err != nil {
		return err
	}
	ids := m.volumes.ids

	origin, err := c.Lab.Node("origin")
	if err != nil {
		return err
	}
	if err := attachAll(ctx, c, o, m, ids, origin, image); err != nil {
		return err
	}
	if err := bootAll(ctx, c, o, m); err != nil {
		return err
	}
	if m.unique, err = uniqueBytes(ctx, origin, image); err != nil {
		return err
	}
	if m.tree, m.members, err = settledTree(ctx, c, image); err != nil {
		return err
	}
	if o.Keep {
		return nil
	}
	o.Progress("detaching and deleting everything")
	start = time.Now()
	nova := c.Nova()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for _, a := range m.attach {
		g.Go(func() error { return nova.Detach(gctx, a.id) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	g, gctx = errgroup.WithContext(ctx)
	g.SetLimit(8)
	for _, id := range append(ids, first.ID) {
		g.Go(func() error { return admin.DeleteVolume(gctx, id) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	err = cluster.Wait(ctx, 2*time.Minute, "all volumes to be gone", func() (bool, error) {
		vs, err := admin.Volumes(ctx)
		return len(vs) == 0, err
	})
	m.deleted = time.Since(start)
	return err
}

func imageID(ctx context.Context, c *cluster.Cluster, name string) (string, error) {
	cmd, err := c.Lab.OpenStack("admin", "image", "show", name, "-f", "value", "-c", "id")
	if err != nil {
		return "", err
	}
	var out strings.Builder
	cmd.Stdout = &out
	if err := c.Lab.RunInside(cmd); err != nil {
		return "", fmt.Errorf("openstack image show %s: %w", name, err)
	}
	return strings.TrimSpace(out.String()), ctx.Err()
}

// attachAll attaches on every compute node at once: two volumes each, the second of which
// finds a warm image.
func attachAll(ctx context.Context, c *cluster.Cluster, o Options, m *measured, ids []string, origin *lab.Node, image string) error {
	admin := c.Admin()
	next := 0
	for round := range 2 {
		o.Progress("attaching a volume on each of %d compute nodes (%s)", o.Compute, []string{"cold", "warm"}[round])
		got := make([]attachment, o.Compute)
		var wg sync.WaitGroup
		errs := make([]error, o.Compute)
		for i := range o.Compute {
			n, err := c.Lab.Node(fmt.Sprintf("node%d", i+1))
			if err != nil {
				return err
			}
			id := ids[next]
			next++
			wg.Go(func() {
				start := time.Now()
				a, err := admin.Attach(ctx, id, n.Name(), n.Initiator())
				got[i], errs[i] = attachment{node: n.Name(), device: a.Device(), id: a.ID, took: time.Since(start)}, err
			})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		m.attach = append(m.attach, got...)
		if round == 0 {
			// From here on the kernel counts, per 4 KiB, what the origin's export is read for.
			if _, err := origin.Run(ctx, "dmsetup", "message", relay(image), "0", "@stats_create - /"+strconv.Itoa(blocks(ctx, origin, image))); err != nil {
				return err
			}
		}
	}
	return nil
}

func relay(image string) string { return "vmthunder-image-" + image + "-relay" }

func blocks(ctx context.Context, n *lab.Node, image string) int {
	out, err := n.Run(ctx, "blockdev", "--getsz", "/dev/mapper/"+relay(image))
	if err != nil {
		return 1
	}
	sectors, _ := strconv.Atoi(strings.TrimSpace(out))
	return max(1, sectors/8)
}

// uniqueBytes counts the distinct 4 KiB blocks that the origin has sent.
func uniqueBytes(ctx context.Context, n *lab.Node, image string) (int64, error) {
	out, err := n.Run(ctx, "dmsetup", "message", relay(image), "0", "@stats_print 0")
	if err != nil {
		return 0, err
	}
	var read int64
	for line := range strings.Lines(out) {
		// start+length reads merged sectors … (Documentation/admin-guide/device-mapper/statistics.rst)
		f := strings.Fields(line)
		if len(f) < 4 {
			continue
		}
		if sectors, _ := strconv.ParseInt(f[3], 10, 64); sectors > 0 {
			_, length, _ := strings.Cut(f[0], "+")
			size, _ := strconv.ParseInt(length, 10, 64)
			read += size * 512
		}
	}
	return read, nil
}

// bootAll boots one virtual machine on each compute node at once from the volumes that
// were attached cold, then one more on each from the others.
func bootAll(ctx context.Context, c *cluster.Cluster, o Options, m *measured) error {
	for round := range 2 {
		o.Progress("booting a virtual machine on each of %d compute nodes, from its volume (%s)", o.Compute, []string{"the first", "the second"}[round])
		boots := make([]boot, o.Compute)
		errs := make([]error, o.Compute)
		var wg sync.WaitGroup
		for i := range o.Compute {
			a := m.attach[round*o.Compute+i]
			n, err := c.Lab.Node(a.node)
			if err != nil {
				return err
			}
			wg.Go(func() {
				vm, err := lab.BootVM(ctx, n, a.device, fmt.Sprintf("vm-%d-%s", round+1, a.node), 5*time.Minute)
				boots[i], errs[i] = boot{node: a.node, vm: vm}, err
				if err == nil {
					o.Progress("%s: BOOTED %s after %.1f s", a.node, vm.ID, vm.Duration.Seconds())
				}
			})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		m.boots = append(m.boots, boots...)
	}
	return nil
}

// settledTree waits until the counters do not move any more and returns the tree.
func settledTree(ctx context.Context, c *cluster.Cluster, image string) (string, []cluster.Member, error) {
	var last string
	var members []cluster.Member
	err := cluster.Wait(ctx, 30*time.Second, "the counters to come to rest", func() (bool, error) {
		var err error
		if members, err = c.Admin().Tree(ctx, image); err != nil {
			return false, err
		}
		now := fmt.Sprint(members)
		same := now == last && len(members) > 0
		last = now
		if !same {
			select { // agents report every two seconds
			case <-time.After(2500 * time.Millisecond):
			case <-ctx.Done():
			}
		}
		return same, nil
	})
	if err != nil {
		return "", nil, err
	}
	out, err := c.Command(ctx, "vmthunder", "tree", image)
	if err != nil {
		return "", nil, fmt.Errorf("vmthunder tree: %w: %s", err, out)
	}
	return out, members, nil
}
