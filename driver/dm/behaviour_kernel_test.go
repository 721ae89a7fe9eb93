//go:build kernel

package dm_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/command"
	"github.com/vmthunder/vmthunder/driver/dm"
)

const prefix = driver.Prefix + "test-"

// pages returns n bytes at an address for direct I/O, random from seed.
func pages(t *testing.T, n int, seed uint64) []byte {
	t.Helper()
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(b) })
	if seed != 0 {
		r := rand.New(rand.NewPCG(seed, seed))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
	}
	return b
}

func direct(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_DIRECT, 0)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EROFS) || errors.Is(err, unix.EPERM) {
		f, err = os.OpenFile(path, os.O_RDONLY|unix.O_DIRECT, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func read(t *testing.T, path string, at int64, n int) []byte {
	t.Helper()
	f, b := direct(t, path), pages(t, n, 0)
	_, err := f.ReadAt(b, at)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, path string, at int64, b []byte) {
	t.Helper()
	f := direct(t, path)
	_, err := f.WriteAt(b, at)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// create makes a device that goes away with the test, after those made later.
func create(t *testing.T, m *dm.Mapper, name string, ro bool, segments ...driver.Segment) driver.Device {
	t.Helper()
	d, err := m.Create(t.Context(), prefix+name, dm.NewTable(segments...), driver.CreateOptions{UUID: driver.DeviceUUID(prefix + name), ReadOnly: ro})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { remove(t, m, name) })
	return d
}

func remove(t *testing.T, m *dm.Mapper, name string) {
	t.Helper()
	if err := m.Remove(context.WithoutCancel(t.Context()), prefix+name); err != nil {
		t.Error(err)
	}
}

// A persistent snapshot made anew over the same store has the same bytes.
func TestKernelSnapshotPersists(t *testing.T) {
	blank(t, 4096*512)
	m := kernelMapper(t)
	base := create(t, m, "base", true, dm.Linear(8192, testDisk(), 1<<16), dm.Zero(8192))
	cow := create(t, m, "cow", false, dm.Linear(16384, testDisk(), 4096))
	seg := dm.SnapshotTarget{Origin: base.Path, Cow: cow.Path, ChunkSectors: 8}.Segment(16384)
	want := pages(t, 1<<20, 1)
	d := create(t, m, "snap", false, seg)
	write(t, d.Path, 4<<20-1<<19, want) // over the seam between image and zeros
	remove(t, m, "snap")
	if _, err := os.Lstat(d.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the node is left: %v", err)
	}
	create(t, m, "snap", false, seg)
	if got := read(t, d.Path, 4<<20-1<<19, len(want)); !bytes.Equal(got, want) {
		t.Error("other bytes after it was made anew")
	}
	t2, err := m.Status(t.Context(), d.Name)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := dm.ParseSnapshotStatus(t2[0].Params); err != nil || st.Used <= st.Metadata || st.Invalid {
		t.Errorf("status %+v, %v", st, err)
	}
}

// The exchange of a parent: a read that finds no path waits, and goes on with the same
// bytes over the new one; the linear device above and its reader notice nothing.
func TestKernelMultipathExchange(t *testing.T) {
	m := kernelMapper(t)
	ctx := t.Context()
	want := pages(t, 8<<20, 2)
	write(t, testDisk(), 0, want)
	const sectors = 8 << 20 / 512
	path := func(dev string) driver.Table {
		return dm.NewTable(dm.MultipathTarget{Device: dev, QueueIfNoPath: true}.Segment(sectors))
	}
	mp := create(t, m, "path", true, path(testDisk())[0])
	top := create(t, m, "top", true, dm.Linear(sectors, mp.Path, 0))
	o := driver.ReloadOptions{ReadOnly: true, NoFlush: true, NoLockFS: true}
	if got := read(t, top.Path, 0, len(want)); !bytes.Equal(got, want) {
		t.Fatal("other bytes before")
	}
	for _, loss := range []struct {
		what string
		do   func() error
	}{
		{"failed path", func() error {
			n, err := dm.Number(testDisk())
			if err != nil {
				return err
			}
			_, err = m.Message(ctx, mp.Name, 0, "fail_path "+n.String())
			return err
		}},
		{"no path", func() error { return m.Reload(ctx, mp.Name, path(""), o) }},
	} {
		if err := loss.do(); err != nil {
			t.Fatalf("%s: %v", loss.what, err)
		}
		f, b, done := direct(t, top.Path), pages(t, len(want), 0), make(chan error, 1)
		go func() { _, err := f.ReadAt(b, 0); done <- err }()
		inFlight(t, top.Path)
		select {
		case err := <-done:
			t.Fatalf("%s: a read returned: %v", loss.what, err)
		default:
		}
		// What waits for I/O that may never end can be called off, and changes nothing.
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		if err := m.Suspend(short, top.Name, driver.ReloadOptions{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: suspend with flush: %v", loss.what, err)
		}
		cancel()
		if d, err := m.Get(ctx, top.Name); err != nil || d.Suspended {
			t.Errorf("%s: after that %+v, %v", loss.what, d, err)
		}
		if err := m.Reload(ctx, mp.Name, path(testDisk()), o); err != nil {
			t.Fatalf("%s: %v", loss.what, err)
		}
		select {
		case err := <-done:
			if err != nil || !bytes.Equal(b, want) {
				t.Errorf("%s: the read ended with %v, same bytes: %v", loss.what, err, bytes.Equal(b, want))
			}
		case <-time.After(60 * time.Second):
			t.Fatalf("%s: the read still waits", loss.what)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

// inFlight returns when requests wait in the device.
func inFlight(t *testing.T, path string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		st, err := dm.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if st.InFlight > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing waits in %s", path)
		}
	}
}

// Reload again and again under a writer: every byte arrives.
func TestKernelReloadUnderIO(t *testing.T) {
	m := kernelMapper(t)
	ctx := t.Context()
	want := pages(t, 8<<20, 4)
	const sectors = 8 << 20 / 512
	lower := create(t, m, "lower", false, dm.Linear(sectors, testDisk(), 2048))
	d := create(t, m, "upper", false, dm.Linear(sectors, lower.Path, 0))
	done := make(chan error, 1)
	f := direct(t, d.Path)
	go func() {
		for at := 0; at < len(want); at += 16 << 10 {
			if _, err := f.WriteAt(want[at:at+16<<10], int64(at)); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	reloads := 0
	for finished := false; !finished; reloads++ {
		seg := dm.Linear(sectors, testDisk(), 2048)
		if reloads%2 == 1 {
			seg = dm.Linear(sectors, lower.Path, 0)
		}
		if err := m.Reload(ctx, d.Name, dm.NewTable(seg), driver.ReloadOptions{NoFlush: reloads%3 == 0, NoLockFS: true}); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			finished = true
		default:
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, testDisk(), 1<<20, len(want)); !bytes.Equal(got, want) {
		t.Errorf("other bytes after %d reloads", reloads)
	}
	t.Logf("%d reloads", reloads)
}

// A table that the kernel refuses: the error says why, in the kernel's words.
func TestKernelReason(t *testing.T) {
	m := kernelMapper(t)
	_, err := m.Create(t.Context(), prefix+"a", dm.NewTable(dm.Linear(16, testDisk(), 1<<40)), driver.CreateOptions{})
	if err == nil || !strings.Contains(err.Error(), "too small for target") {
		t.Errorf("got %v", err)
	}
	t.Log(err)
}

// A device that an agent made and died before it loaded a table is completed; one of
// another UUID is left alone.
func TestKernelHalfMade(t *testing.T) {
	m := kernelMapper(t)
	run := func(args ...string) {
		t.Helper()
		c := command.Cmd{Name: "dmsetup", Args: args, Env: []string{"DM_DISABLE_UDEV=1"}}
		if _, err := (command.Exec{}).Run(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	run("create", prefix+"half", "--notable", "--uuid", driver.DeviceUUID(prefix+"half"))
	if d, err := m.Get(t.Context(), prefix+"half"); err != nil || d.Live {
		t.Errorf("half made: %+v, %v", d, err)
	}
	if d := create(t, m, "half", false, dm.Zero(16)); !d.Live || d.Suspended {
		t.Errorf("completed: %+v", d)
	}
	run("create", prefix+"other", "--notable", "--uuid", "SOMEBODY-else")
	_, err := m.Create(t.Context(), prefix+"other", dm.NewTable(dm.Zero(16)), driver.CreateOptions{UUID: driver.DeviceUUID(prefix + "other")})
	if !errors.Is(err, driver.ErrExists) {
		t.Errorf("somebody else's: %v", err)
	}
	run("remove", prefix+"other")
}

// A node that is left from another device is replaced, not used.
func TestKernelStaleNode(t *testing.T) {
	m := kernelMapper(t)
	n, err := dm.Number(testDisk())
	if err != nil {
		t.Fatal(err)
	}
	path := "/dev/mapper/" + prefix + "stale"
	if err := unix.Mknod(path, unix.S_IFBLK|0o600, int(unix.Mkdev(n.Major, n.Minor))); err != nil {
		t.Fatal(err)
	}
	d := create(t, m, "stale", false, dm.Zero(16))
	if got, err := dm.Number(path); err != nil || got != (dm.DevNumber{Major: d.Major, Minor: d.Minor}) {
		t.Errorf("the node is of %v, %v; made %+v", got, err, d)
	}
	if size, err := dm.Size(path); err != nil || size != 16*512 {
		t.Errorf("size %d, %v", size, err)
	}
	if sectors, err := dm.Sectors(path); err != nil || sectors != 16 {
		t.Errorf("sectors %d, %v", sectors, err)
	}
	// A lost one is made again by the next Create of the same.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	create(t, m, "stale", false, dm.Zero(16))
	if _, err := dm.Number(path); err != nil {
		t.Error(err)
	}
}

// What stands on what, and how many commands all of that runs.
func TestKernelDepsAndNoCommands(t *testing.T) {
	run := &command.Counting{Runner: command.Exec{}}
	warm := kernelMapper(t)
	for _, typ := range []string{"linear", "snapshot"} { // modules are loaded
		if _, err := warm.HasTarget(t.Context(), typ); err != nil {
			t.Fatal(err)
		}
	}
	m := dm.New(run)
	defer func() { _ = m.Close() }()
	blank(t, 4096*512)
	base := create(t, m, "base", true, dm.Linear(1000, testDisk(), 1<<16))
	cow := create(t, m, "cow", false, dm.Linear(4096, testDisk(), 4096))
	d := create(t, m, "snap", false, dm.SnapshotTarget{Origin: base.Path, Cow: cow.Path, ChunkSectors: 8}.Segment(1000))
	deps, err := m.Deps(t.Context(), d.Name)
	if err != nil || len(deps) != 2 {
		t.Errorf("dependencies %v, %v", deps, err)
	}
	for _, dev := range []driver.Device{base, cow} {
		if !strings.Contains(deps[0].String()+" "+deps[1].String(), dm.DevNumber{Major: dev.Major, Minor: dev.Minor}.String()) {
			t.Errorf("dependencies %v lack %s", deps, dev.Name)
		}
	}
	for _, name := range []string{"snap", "cow", "base"} {
		remove(t, m, name)
	}
	if n := run.Count(); n != 0 {
		t.Errorf("%d commands were executed", n)
	}
}
