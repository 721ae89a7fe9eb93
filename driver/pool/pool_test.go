package pool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/command"
	"github.com/vmthunder/vmthunder/driver/drivertest"
	"github.com/vmthunder/vmthunder/driver/fake"
)

const (
	testSize = 128 << 20
	testName = driver.Prefix + "test-pool"
)

// node is a fake node with a real file.
type node struct {
	t    *testing.T
	file string
	devs *fake.Devices
	dm   *fake.DeviceMapper
	loop *fake.Loop
	// before is called at each step, "" for none.
	before func(step string)
}

func newNode(t *testing.T) *node {
	n := &node{t: t, file: filepath.Join(t.TempDir(), "pool"), devs: fake.NewDevices(), before: func(string) {}}
	n.dm, n.loop = fake.NewDeviceMapper(n.devs), fake.NewLoop(n.devs)
	n.write(0, nil)
	n.devs.DeclareFile(n.file, testSize)
	return n
}

// write puts data into the file, which is made if need be.
func (n *node) write(at int64, data []byte) {
	n.t.Helper()
	f, err := os.OpenFile(n.file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		n.t.Fatal(err)
	}
	_, err = f.WriteAt(data, at)
	if err = errors.Join(err, f.Truncate(testSize), f.Close()); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) pool() *Pool {
	p := New(Config{Device: n.file, Name: testName}, n.dm, n.loop, &command.Recorder{})
	p.param = ""
	p.crash = func(step string) error {
		if step == "pool" { // the kernel has written its superblock
			super := make([]byte, 64)
			binary.LittleEndian.PutUint64(super[thinMagicAt:], thinMagic)
			n.write(headerSpace, super)
		}
		n.before(step)
		return nil
	}
	return p
}

func (n *node) reboot() {
	n.dm.Reboot()
	n.loop.Reboot()
}

func TestConformance(t *testing.T) {
	drivertest.Pool(t, func(t *testing.T) drivertest.PoolEnv {
		n := newNode(t)
		return drivertest.PoolEnv{
			Pool:    func() driver.Pool { return n.pool() },
			DM:      n.dm,
			Open:    func(path string) (io.Closer, error) { return n.devs.Open(path) },
			Reboot:  n.reboot,
			Foreign: func() { n.write(0x438, []byte("\x53\xef")) },
			Missing: func() {
				if err := os.Remove(n.file); err != nil {
					t.Fatal(err)
				}
			},
			Fill: func(string) {
				n.dm.SetPoolUsage(testName, 1<<40, "")
				n.dm.SetThinMapped(testName, 1, 1<<20)
			},
		}
	})
}

// A crash after any step of the formatting, and whatever the machine did then, ends in a
// pool that is formatted once.
func TestCrashWhileFormatting(t *testing.T) {
	for _, step := range []string{"header", "metadata zeroed", "parts", "pool"} {
		for what, after := range map[string]func(*node){"reboot": (*node).reboot, "restart": func(*node) {}} {
			t.Run(step+" "+what, func(t *testing.T) {
				n := newNode(t)
				n.before = func(s string) {
					if s == step {
						panic("crash") // so that nothing is undone
					}
				}
				func() {
					defer func() {
						if recover() == nil {
							t.Fatal("no crash")
						}
					}()
					_, _ = n.pool().Open(t.Context())
				}()
				n.before = func(string) {}
				after(n)
				st, err := n.pool().Open(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if err := n.pool().CreateThin(t.Context(), 1); err != nil {
					t.Fatal(err)
				}
				n.reboot()
				n.before = func(s string) {
					if s == "header" || s == "metadata zeroed" {
						t.Error("formatted again")
					}
				}
				again, err := n.pool().Open(t.Context())
				if err != nil || again.UUID != st.UUID {
					t.Errorf("later %+v, %v; first %+v", again, err, st)
				}
			})
		}
	}
}

// A failure at any step leaves no device behind, and the next Open works.
func TestFailureWhileOpening(t *testing.T) {
	boom := errors.New("boom")
	for _, name := range []string{testName + "-meta", testName + "-data", testName} {
		n := newNode(t)
		n.dm.FailNext("load", name, boom)
		if _, err := n.pool().Open(t.Context()); !errors.Is(err, boom) {
			t.Errorf("%s: %v", name, err)
		}
		if list, err := n.dm.List(t.Context(), ""); err != nil || len(list) != 0 {
			t.Errorf("%s: left over %v, %v", name, list, err)
		}
		if list, err := n.loop.List(t.Context()); err != nil || len(list) != 0 {
			t.Errorf("%s: left over %v, %v", name, list, err)
		}
		if _, err := n.pool().Open(t.Context()); err != nil {
			t.Errorf("%s: open again: %v", name, err)
		}
	}
}

func TestForeign(t *testing.T) {
	for what, at := range map[string]int64{
		"its first byte": 0, "the first MiB's end": 1<<20 - 1, "its last byte": testSize - 1,
		"the last MiB's begin": testSize - 1<<20, "a btrfs copy": 64<<20 + 64,
	} {
		n := newNode(t)
		n.write(at, []byte{1})
		if _, err := n.pool().Open(t.Context()); !errors.Is(err, driver.ErrForeign) {
			t.Errorf("%s: %v", what, err)
		}
	}
	n := newNode(t)
	n.write(512, []byte("LABELONE"))
	if _, err := n.pool().Open(t.Context()); err == nil || !strings.Contains(err.Error(), "LVM") {
		t.Errorf("the error does not say what it is: %v", err)
	}
}

// What happens to a pool's headers and metadata later.
func TestDamage(t *testing.T) {
	for _, c := range []struct {
		what string
		do   func(*node)
		want error // nil: opens with the same UUID
	}{
		{"nothing", func(*node) {}, nil},
		{"first header zeroed", func(n *node) { n.write(0, make([]byte, 4096)) }, nil},
		{"second header zeroed", func(n *node) { n.write(secondAt, make([]byte, 4096)) }, nil},
		{"first header damaged", func(n *node) { n.write(50, []byte{0xff}) }, nil},
		{"partition table", func(n *node) { n.write(0, bytes.Repeat([]byte("P"), 512)) }, driver.ErrForeign},
		{"both damaged", func(n *node) { n.write(50, []byte{0xff}); n.write(secondAt+50, []byte{0xff}) }, driver.ErrForeign},
		{"both zeroed", func(n *node) { n.write(0, make([]byte, 1<<17)) }, nil}, // below: blank by our check
		{"metadata zeroed", func(n *node) { n.write(headerSpace, make([]byte, 4096)) }, driver.ErrForeign},
	} {
		t.Run(c.what, func(t *testing.T) {
			n := newNode(t)
			st, err := n.pool().Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			n.reboot()
			c.do(n)
			again, err := n.pool().Open(t.Context())
			switch {
			case c.what == "both zeroed": // an administrator's way to say: make a new one
				if err != nil || again.UUID == st.UUID {
					t.Errorf("opened %+v, %v", again, err)
				}
			case c.want == nil && (err != nil || again.UUID != st.UUID):
				t.Errorf("opened %+v, %v; made as %s", again, err, st.UUID)
			case c.want != nil && !errors.Is(err, c.want):
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestSmallDevice(t *testing.T) {
	n := newNode(t)
	if err := os.Truncate(n.file, 8<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := n.pool().Open(t.Context()); err == nil {
		t.Error("a pool of 8 MiB was made")
	}
	n.write(0, nil)
	if _, err := n.pool().Open(t.Context()); err != nil {
		t.Errorf("the refused one left something: %v", err)
	}
	n.reboot()
	if err := os.Truncate(n.file, testSize/2); err != nil {
		t.Fatal(err)
	}
	if _, err := n.pool().Open(t.Context()); err == nil {
		t.Error("a pool was opened on half of its device")
	}
}

// The low-water mark is no part of the pool's identity.
func TestOtherLowWater(t *testing.T) {
	n := newNode(t)
	if _, err := n.pool().Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := n.pool()
	p.cfg.LowWater = 77
	if _, err := p.Open(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestVolumeGroup(t *testing.T) {
	const vg = "vg0"
	dev := t.TempDir()
	volume := filepath.Join(dev, vg, volumeName)
	if err := os.Mkdir(filepath.Dir(volume), 0o700); err != nil {
		t.Fatal(err)
	}
	// The report, as lvs 2.03.16 prints it.
	report := func(lvs string) string {
		return "  {\n      \"report\": [\n          {\n              \"lv\": [\n" + lvs + "              ]\n          }\n      ]\n  }\n"
	}
	state, fail := "", ""
	rec := &command.Recorder{}
	rec.Reply = func(c command.Cmd) (command.Result, error) {
		if c.Name == fail {
			return command.Result{}, command.Failure(c, 5, "Volume group \"vg0\" not found")
		}
		switch c.Name {
		case "lvs":
			return command.Result{Stdout: []byte(report(state))}, nil
		case "lvcreate":
			state = `{"lv_name":"vmthunder-pool", "lv_tags":"vmthunder-blank"}` + "\n"
			// old data shines through
			if err := os.WriteFile(volume, bytes.Repeat([]byte("old!"), testSize/4), 0o600); err != nil {
				t.Fatal(err)
			}
		case "lvchange":
			if c.Args[0] == "--deltag" {
				state = `{"lv_name":"root", "lv_tags":""}, {"lv_name":"vmthunder-pool", "lv_tags":""}` + "\n"
			}
		}
		return command.Result{}, nil
	}
	n := newNode(t)
	n.file = volume
	n.devs.DeclareFile(volume, testSize)
	open := func() (driver.PoolStatus, error) {
		p := n.pool()
		p.cfg.Device, p.run, p.devDir = vgPrefix+vg, rec, dev
		return p.Open(t.Context())
	}
	fail = "lvs"
	if _, err := open(); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("no volume group: %v", err)
	}
	fail = "lvcreate"
	if _, err := open(); err == nil {
		t.Error("opened without a volume")
	}
	fail = ""
	st, err := open()
	if err != nil {
		t.Fatal(err)
	}
	n.reboot()
	before := len(rec.Calls())
	if again, err := open(); err != nil || again.UUID != st.UUID {
		t.Errorf("again %+v, %v; first %+v", again, err, st)
	}
	if got := strings.Join(rec.Lines()[before:], "; "); got != "lvs --reportformat json -o lv_name,lv_tags -- vg0; lvchange --activate y -- vg0/vmthunder-pool" {
		t.Errorf("the second time ran %s", got)
	}
}
