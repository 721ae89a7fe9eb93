package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/agent"
	"github.com/vmthunder/vmthunder/driver/fake"
)

const (
	img  = "11111111-1111-4111-8111-111111111111"
	img2 = "22222222-2222-4222-8222-222222222222"
	volA = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
	volB = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
	volC = "cccccccc-cccc-4ccc-8ccc-cccccccccccc"

	imageBytes = 64 << 10
	poolDisk   = "/dev/vdb"
	secretMark = "s3cret"
)

// tb is what the bed needs of testing.T and rapid.T.
type tb interface {
	Helper()
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// bed is a small cluster on fakes. It lives in a bubble of package synctest.
type bed struct {
	t      tb
	fabric *fake.Fabric
	nodes  map[string]*node
}

// node is a host: what its kernel keeps, which outlives the agent, and the agent.
type node struct {
	bed        *bed
	name, addr string
	tap        *tap
	devs       *fake.Devices
	dm         *fake.DeviceMapper
	loop       *fake.Loop
	pool       *fake.Pool
	cache      *tapCache
	target     *tapTarget
	initiator  *tapInitiator
	images     *fake.ImageStore // of an origin
	drivers    agent.Drivers
	config     agent.Config

	control *control
	hook    *logtest.Hook
	agent   *agent.Agent
	cancel  context.CancelFunc
	ended   chan struct{}

	diskMu sync.Mutex
	known  map[string]bool // disks of sessions
	gen    int64
	faults atomic.Int32 // that faultAt has made
}

// control records the reports, and hands out documents.
type control struct {
	mu      sync.Mutex
	reports []model.Observed
	times   []time.Time
	heard   model.Observed // last, in a report or in an answer that was waited for
	answer  func(model.Observed) (*model.Desired, error)
}

func (c *control) Report(_ context.Context, o model.Observed) (*model.Desired, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reports, c.heard = append(c.reports, o), o
	c.times = append(c.times, time.Now())
	if c.answer != nil {
		return c.answer(o)
	}
	return nil, nil
}

func (c *control) take() ([]model.Observed, []time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, t := c.reports, c.times
	c.reports, c.times = nil, nil
	return r, t
}

func (c *control) last() model.Observed {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.heard
}

func newBed(t tb) *bed {
	b := &bed{t: t, fabric: fake.NewFabric(), nodes: map[string]*node{}}
	for i, name := range []string{"origin", "a", "b", "c"} {
		b.add(name, i+1)
	}
	return b
}

func (b *bed) add(name string, i int) *node {
	n := &node{
		bed: b, name: name, addr: fmt.Sprintf("10.0.0.%d:3260", i), tap: &tap{}, devs: fake.NewDevices(),
		control: &control{}, known: map[string]bool{},
	}
	b.nodes[name] = n
	n.devs.Declare(poolDisk, 1<<24, false)
	n.dm = fake.NewDeviceMapper(n.devs)
	n.loop = fake.NewLoop(n.devs)
	n.pool = fake.NewPool(n.dm, poolDisk)
	n.cache = &tapCache{Cache: fake.NewCache("bcache", &fake.CacheState{}), t: n.tap, devs: n.devs, held: map[string][]io.Closer{}}
	n.target = &tapTarget{Target: fake.NewTarget(b.fabric, name, "lioadm"), t: n.tap, devs: n.devs, held: map[string]io.Closer{}}
	n.target.Exists = n.devs.Exists
	n.initiator = &tapInitiator{Initiator: fake.NewInitiator(b.fabric, initiatorOf(name)), t: n.tap, n: n}
	n.initiator.Held = func(disk string) bool { return n.devs.Users(disk) > 0 }
	n.drivers = agent.Drivers{
		DM: tapDM{n.dm, n.tap}, Loop: tapLoop{n.loop, n.tap}, Pool: tapPool{n.pool, n.tap}, Cache: n.cache,
		Target: n.target, Initiator: n.initiator,
		ReadBytes: func(path string) (int64, error) {
			if !n.devs.Exists(path) {
				return 0, driver.ErrNotFound
			}
			return 4096, nil
		},
		Size: func(major, minor uint32) (int64, error) {
			all, err := n.dm.List(context.Background(), "")
			for _, d := range all {
				if d.Major == major && d.Minor == minor {
					t, err := n.dm.Table(context.Background(), d.Name)
					return int64(t.Sectors()) * 512, err
				}
			}
			return 0, errors.Join(err, driver.ErrNotFound)
		},
		Number: func(path string) (string, error) {
			number, err := n.devs.Number(path)
			return number.String(), err
		},
	}
	n.config = agent.Config{Host: name, PageLoops: 3, Address: n.addr, Compute: true, BootID: "boot", Version: "test"}
	if name == "origin" {
		n.images = fake.NewImageStore(n.devs)
		n.drivers.Images = tapImages{n.images, n.tap}
		n.config.Origin = true
		for _, id := range []string{img, img2} {
			n.images.Publish(id, make([]byte, imageBytes), false)
		}
	}
	return n
}

func initiatorOf(host string) string { return "iqn.2026-11.org.test:" + host }

// disks makes the node's SCSI disks follow its sessions.
func (n *node) disks() {
	n.diskMu.Lock()
	defer n.diskMu.Unlock()
	list, _ := n.initiator.Sessions(context.Background(), driver.IQNPrefix)
	now := map[string]bool{}
	for _, s := range list {
		now[s.Device] = true
		if n.known[s.Device] {
			continue
		}
		source, readOnly, _ := n.bed.fabric.Source(initiatorOf(n.name), s.Device)
		host, _, _, _ := driver.ParseIQN(s.IQN)
		sectors, err := n.bed.nodes[host].devs.Sectors(source)
		if err != nil {
			n.bed.t.Errorf("the disk behind %s: %v", s.IQN, err)
		}
		n.devs.Declare(s.Device, sectors, readOnly)
	}
	for disk := range n.known {
		if !now[disk] {
			n.devs.Forget(disk)
		}
	}
	n.known = now
}

// start makes a new agent over what stands on the node and runs it.
func (n *node) start() {
	logger, hook := logtest.NewNullLogger()
	logger.SetLevel(logrus.DebugLevel)
	if n.hook != nil {
		for _, e := range n.hook.AllEntries() {
			hook.Entries = append(hook.Entries, *e)
		}
	}
	n.hook = hook
	ctx, cancel := context.WithCancel(context.Background())
	n.agent = agent.New(n.config, n.drivers, n.control, logrus.NewEntry(logger))
	n.cancel, n.ended = cancel, make(chan struct{})
	go func(a *agent.Agent, ended chan struct{}) {
		defer close(ended)
		if err := a.Run(ctx); err != nil {
			n.bed.t.Errorf("run: %v", err)
		}
	}(n.agent, n.ended)
	synctest.Wait()
}

func (n *node) stop() {
	if n.cancel != nil {
		n.cancel()
		<-n.ended
		n.cancel = nil
	}
}

func (b *bed) start() {
	for _, n := range b.nodes {
		n.start()
	}
}

// stop ends all agents and looks for secrets in all that they said.
func (b *bed) stop() {
	for _, n := range b.nodes {
		n.stop()
		reports, _ := n.control.take()
		text, _ := json.Marshal(reports)
		if strings.Contains(string(text), secretMark) {
			b.t.Errorf("a report of %s holds a secret", n.name)
		}
		if n.hook == nil {
			continue
		}
		for _, e := range n.hook.AllEntries() {
			if line, _ := e.String(); strings.Contains(line, secretMark) || strings.Contains(fmt.Sprintf("%v %#v", e.Data, e.Data), secretMark) {
				b.t.Errorf("%s logged a secret: %s", n.name, line)
			}
		}
	}
}

// apply gives a document of the next generation to the agent.
func (n *node) apply(images []model.DesiredImage, volumes []model.DesiredVolume, wait ...string) model.Observed {
	n.bed.t.Helper()
	n.gen++
	return n.applyDoc(n.doc(images, volumes), wait...)
}

// take gives a document of the next generation to the agent, and does not wait.
func (n *node) take(images []model.DesiredImage, volumes []model.DesiredVolume) {
	n.bed.t.Helper()
	n.gen++
	if err := n.agent.Take(n.doc(images, volumes)); err != nil {
		n.bed.t.Fatalf("document for %s: %v", n.name, err)
	}
}

func (n *node) doc(images []model.DesiredImage, volumes []model.DesiredVolume) model.Desired {
	return model.Desired{Schema: model.DesiredSchema, Host: n.name, Generation: n.gen, Images: images, Volumes: volumes}
}

func (n *node) applyDoc(doc model.Desired, wait ...string) model.Observed {
	n.bed.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	o, err := n.agent.Apply(ctx, doc, wait)
	if err != nil {
		n.bed.t.Fatalf("apply on %s: %v", n.name, err)
	}
	n.control.mu.Lock()
	n.control.heard = o
	n.control.mu.Unlock()
	return o
}

func (n *node) observe() model.Observed { return n.agent.Observe(context.Background()) }

// later lets the bubble's time pass, and all come to rest then.
func later(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// until waits, in the bubble's time, for what is seen to be so.
func (n *node) until(what string, ok func(model.Observed) bool) model.Observed {
	n.bed.t.Helper()
	for range 600 {
		synctest.Wait()
		if o := n.observe(); ok(o) {
			return o
		}
		later(100 * time.Millisecond)
	}
	text, _ := json.MarshalIndent(n.observe(), "", " ")
	n.bed.t.Fatalf("%s: not in a minute: %s\n%s\nlast changes: %s", n.name, what, text, n.tap.tail())
	panic("unreachable")
}

func (t *tap) tail() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.ops[max(0, len(t.ops)-30):], "\n")
}

func (n *node) settled() model.Observed {
	n.bed.t.Helper()
	return n.until("settled", func(o model.Observed) bool { return o.Settled })
}

// state is all that a node's kernel and disks hold, without what numbering by chance tells apart.
func (n *node) state() string {
	ctx := context.Background()
	var out []string
	names := map[string]string{} // numbers and paths by which tables speak of devices
	name := func(path, as string) {
		names[path] = as
		if number, err := n.devs.Number(path); err == nil {
			names[number.String()] = as
		}
	}
	sessions, _ := n.initiator.Sessions(ctx, "")
	for _, s := range sessions {
		name(s.Device, "disk("+s.IQN+"@"+s.Address+")")
		out = append(out, fmt.Sprintf("session %s@%s %s", s.IQN, s.Address, s.State))
	}
	for _, id := range []string{img, img2} {
		if path, err := n.cache.Find(ctx, id); err == nil {
			name(path, "cache("+id+")")
			out = append(out, "cache "+id)
		}
	}
	loops, _ := n.loop.List(ctx)
	for _, l := range loops {
		backing := l.Backing
		if as, ok := names[backing]; ok {
			backing = as
		}
		name(l.Path, "loop("+backing+")")
		out = append(out, fmt.Sprintf("loop %s %d ro=%v", backing, l.Bytes, l.ReadOnly))
	}
	devices, _ := n.dm.List(ctx, "")
	for _, d := range devices {
		name(d.Path, d.Name)
	}
	for _, d := range devices {
		table, _ := n.dm.Table(ctx, d.Name)
		line := fmt.Sprintf("device %s %s open=%d ro=%v suspended=%v", d.Name, d.UUID, d.OpenCount, d.ReadOnly, d.Suspended)
		if strings.HasPrefix(d.Name, fake.PoolName) {
			line = "device " + d.Name
			table = nil
		}
		for _, s := range table {
			words := strings.Fields(s.Params)
			for i, w := range words {
				if as, ok := names[w]; ok {
					words[i] = as
				}
			}
			line += fmt.Sprintf(" [%d+%d %s %s]", s.Start, s.Length, s.Type, strings.Join(words, " "))
		}
		out = append(out, line)
	}
	targets, _ := n.target.List(ctx, "")
	for _, t := range targets {
		out = append(out, fmt.Sprintf("target %s %s ro=%v %v", t.IQN, t.Device, t.ReadOnly, t.ACLs))
	}
	out = append(out, fmt.Sprintf("thins %v", n.pool.Thins()))
	if n.images != nil {
		files, _ := n.images.List(ctx)
		for _, f := range files {
			out = append(out, "file "+f.Path)
		}
	}
	slices.Sort(out)
	return strings.Join(out, "\n")
}
