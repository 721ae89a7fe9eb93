package agent_test

import (
	"context"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/fake"
)

// tap sees every change that an agent makes through its drivers, and can fail any of them.
type tap struct {
	mu  sync.Mutex
	ops []string
	// fault is asked before and after the n-th change (from 0); an error ends it there.
	fault func(ctx context.Context, n int, op string, after bool) error
}

func (t *tap) do(ctx context.Context, op string, f func() error) error {
	t.mu.Lock()
	n := len(t.ops)
	t.ops = append(t.ops, op)
	fault := t.fault
	t.mu.Unlock()
	if fault != nil {
		if err := fault(ctx, n, op, false); err != nil {
			return err
		}
	}
	err := f()
	if fault != nil {
		if err := fault(ctx, n, op, true); err != nil {
			return err
		}
	}
	return err
}

// take returns the changes since the last call and begins to count anew.
func (t *tap) take() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := t.ops
	t.ops = nil
	return out
}

func (t *tap) setFault(f func(ctx context.Context, n int, op string, after bool) error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fault, t.ops = f, nil
}

// kinds are the words that operations begin with, in order.
func kinds(ops []string) string {
	var out []string
	for _, o := range ops {
		k, _, _ := strings.Cut(o, " ")
		out = append(out, k)
	}
	return strings.Join(out, " ")
}

func without(ops []string, kind string) []string {
	return slices.DeleteFunc(slices.Clone(ops), func(o string) bool { return strings.HasPrefix(o, kind+" ") })
}

type tapDM struct {
	*fake.DeviceMapper
	t *tap
}

func (d tapDM) Create(ctx context.Context, name string, t driver.Table, o driver.CreateOptions) (out driver.Device, err error) {
	err = d.t.do(ctx, "dm.create "+name, func() error { out, err = d.DeviceMapper.Create(ctx, name, t, o); return err })
	return out, err
}

func (d tapDM) Reload(ctx context.Context, name string, t driver.Table, o driver.ReloadOptions) error {
	return d.t.do(ctx, "dm.reload "+name, func() error { return d.DeviceMapper.Reload(ctx, name, t, o) })
}

func (d tapDM) Remove(ctx context.Context, name string) error {
	return d.t.do(ctx, "dm.remove "+name, func() error { return d.DeviceMapper.Remove(ctx, name) })
}

func (d tapDM) Resume(ctx context.Context, name string) error {
	return d.t.do(ctx, "dm.resume "+name, func() error { return d.DeviceMapper.Resume(ctx, name) })
}

func (d tapDM) Message(ctx context.Context, name string, sector uint64, m string) (out string, err error) {
	err = d.t.do(ctx, "dm.message "+name+" "+m, func() error { out, err = d.DeviceMapper.Message(ctx, name, sector, m); return err })
	return out, err
}

type tapLoop struct {
	*fake.Loop
	t *tap
}

func (l tapLoop) AttachAll(ctx context.Context, backing string, o driver.LoopOptions, n int) (out []driver.LoopDevice, err error) {
	err = l.t.do(ctx, "loop.attach "+backing, func() error { out, err = l.Loop.AttachAll(ctx, backing, o, n); return err })
	return out, err
}

func (l tapLoop) Attach(ctx context.Context, backing string, o driver.LoopOptions) (out driver.LoopDevice, err error) {
	err = l.t.do(ctx, "loop.attach "+backing, func() error { out, err = l.Loop.Attach(ctx, backing, o); return err })
	return out, err
}

func (l tapLoop) Detach(ctx context.Context, path string) error {
	return l.t.do(ctx, "loop.detach "+path, func() error { return l.Loop.Detach(ctx, path) })
}

type tapPool struct {
	*fake.Pool
	t *tap
}

func (p tapPool) CreateThin(ctx context.Context, id uint32) error {
	return p.t.do(ctx, "pool.create", func() error { return p.Pool.CreateThin(ctx, id) })
}

func (p tapPool) DeleteThin(ctx context.Context, id uint32) error {
	return p.t.do(ctx, "pool.delete", func() error { return p.Pool.DeleteThin(ctx, id) })
}

func (p tapPool) Activate(ctx context.Context, name, uuid string, id uint32, sectors uint64) (out string, err error) {
	err = p.t.do(ctx, "pool.activate "+name, func() error { out, err = p.Pool.Activate(ctx, name, uuid, id, sectors); return err })
	return out, err
}

func (p tapPool) SnapThin(ctx context.Context, id, origin uint32) error {
	return p.t.do(ctx, "pool.snap", func() error { return p.Pool.SnapThin(ctx, id, origin) })
}

func (p tapPool) Grow(ctx context.Context, name string, id uint32, sectors uint64) error {
	return p.t.do(ctx, "pool.grow "+name, func() error { return p.Pool.Grow(ctx, name, id, sectors) })
}

func (p tapPool) Deactivate(ctx context.Context, name string) error {
	return p.t.do(ctx, "pool.deactivate "+name, func() error { return p.Pool.Deactivate(ctx, name) })
}

// tapCache makes the cached device stand on the node, and hold what is beneath it open.
type tapCache struct {
	*fake.Cache
	t     *tap
	devs  *fake.Devices
	mu    sync.Mutex
	held  map[string][]io.Closer // by image
	needs func(uint64) []driver.LocalDevice
	name  string
}

func (c *tapCache) Name() string {
	if c.name != "" {
		return c.name
	}
	return c.Cache.Name()
}

func (c *tapCache) Needs(sectors uint64) []driver.LocalDevice {
	if c.needs != nil {
		return c.needs(sectors)
	}
	return c.Cache.Needs(sectors)
}

func (c *tapCache) Start(ctx context.Context, s driver.CacheSpec) (out string, err error) {
	op := "cache.start "
	if s.Fresh {
		op = "cache.start-fresh "
	}
	err = c.t.do(ctx, op+s.ImageID, func() error { out, err = c.start(ctx, s); return err })
	return out, err
}

func (c *tapCache) start(ctx context.Context, s driver.CacheSpec) (string, error) {
	if c.Name() == "none" {
		return s.Upstream, nil
	}
	_, err := c.Find(ctx, s.ImageID)
	stood := err == nil
	path, err := c.Cache.Start(ctx, s)
	if err != nil || stood {
		return path, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var held []io.Closer
	for _, below := range append([]string{s.Upstream}, s.Local...) {
		h, err := c.devs.Open(below)
		if err != nil {
			for _, h := range held {
				_ = h.Close()
			}
			_ = c.Cache.Stop(ctx, s, false)
			return "", err
		}
		held = append(held, h)
	}
	c.held[s.ImageID] = held
	c.devs.Declare(path, s.Sectors, true)
	return path, nil
}

func (c *tapCache) Stop(ctx context.Context, s driver.CacheSpec, forget bool) error {
	return c.t.do(ctx, "cache.stop "+s.ImageID, func() error {
		path, err := c.Find(ctx, s.ImageID)
		if err != nil {
			return c.Cache.Stop(ctx, s, forget)
		}
		if c.devs.Users(path) > 0 {
			return driver.ErrBusy
		}
		if err := c.Cache.Stop(ctx, s, forget); err != nil {
			return err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, h := range c.held[s.ImageID] {
			_ = h.Close()
		}
		delete(c.held, s.ImageID)
		c.devs.Forget(path)
		return nil
	})
}

// tapTarget claims what it exports, as LIO does.
type tapTarget struct {
	*fake.Target
	t    *tap
	devs *fake.Devices
	mu   sync.Mutex
	held map[string]io.Closer // by IQN
}

func (x *tapTarget) Ensure(ctx context.Context, want driver.Target) (out driver.TargetState, err error) {
	err = x.t.do(ctx, "target.ensure "+want.IQN, func() error {
		x.mu.Lock()
		defer x.mu.Unlock()
		var claimed io.Closer
		if x.held[want.IQN] == nil {
			h, err := x.devs.Claim(want.Device)
			if err != nil {
				return err
			}
			claimed = h
		}
		if out, err = x.Target.Ensure(ctx, want); err != nil {
			if claimed != nil {
				_ = claimed.Close() // a helper undoes what it has begun
			}
			return err
		}
		if claimed != nil {
			x.held[want.IQN] = claimed
		}
		return nil
	})
	return out, err
}

func (x *tapTarget) Remove(ctx context.Context, iqn string) error {
	return x.t.do(ctx, "target.remove "+iqn, func() error {
		x.mu.Lock()
		defer x.mu.Unlock()
		if err := x.Target.Remove(ctx, iqn); err != nil {
			return err
		}
		if h := x.held[iqn]; h != nil {
			_ = h.Close()
			delete(x.held, iqn)
		}
		return nil
	})
}

// tapInitiator makes the sessions' disks stand on the node.
type tapInitiator struct {
	*fake.Initiator
	t *tap
	n *node
	// hang, if set, is asked whether a login gets no answer at all.
	hang func(p driver.Portal) bool
}

func (i *tapInitiator) Login(ctx context.Context, p driver.Portal) (out driver.Session, err error) {
	err = i.t.do(ctx, "login "+p.IQN+" "+p.Address, func() error {
		if i.hang != nil && i.hang(p) {
			<-ctx.Done()
			return ctx.Err()
		}
		defer i.n.disks()
		out, err = i.Initiator.Login(ctx, p)
		return err
	})
	return out, err
}

func (i *tapInitiator) Logout(ctx context.Context, iqn, address string) error {
	return i.t.do(ctx, "logout "+iqn+" "+address, func() error {
		defer i.n.disks()
		return i.Initiator.Logout(ctx, iqn, address)
	})
}

type tapImages struct {
	*fake.ImageStore
	t *tap
}

func (s tapImages) Ensure(ctx context.Context, src driver.ImageSource, p func(driver.ImageProgress)) (out driver.ImageFile, err error) {
	err = s.t.do(ctx, "image.import "+src.ImageID, func() error { out, err = s.ImageStore.Ensure(ctx, src, p); return err })
	return out, err
}

func (s tapImages) Remove(ctx context.Context, id string) error {
	return s.t.do(ctx, "image.remove "+id, func() error { return s.ImageStore.Remove(ctx, id) })
}
