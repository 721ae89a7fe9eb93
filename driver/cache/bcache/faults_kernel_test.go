//go:build kernel

package bcache_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/cache/bcache"
	"github.com/vmthunder/vmthunder/driver/cache/internal/bed"
	"github.com/vmthunder/vmthunder/driver/command"
	"github.com/vmthunder/vmthunder/driver/dm"
	"github.com/vmthunder/vmthunder/driver/loop"
)

// The disk was exchanged: the superblock of the image refers to a set that is no more.
func TestSetLostWhileStopped(t *testing.T) {
	b, c := newBed(t, true)
	s := newStack(t, b, c)
	s.read(s.start())
	if err := c.Stop(t.Context(), s.spec, false); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	wipe(t, b.SetPath())
	path := s.start()
	if read := s.read(path); read < size/512 {
		t.Errorf("%d sectors read from upstream on a new set", read)
	}
	s.warm(path)
	s.degraded(false)
}

// The kernel gives up the set under a running image.
func TestSetLostWhileStanding(t *testing.T) {
	b, c := newBed(t, true)
	s := newStack(t, b, c)
	path := s.start()
	s.read(path)
	set, err := c.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	closeIt := b.Open(t, path) // a VM runs
	sysfs(t, "/sys/fs/bcache/"+set.UUID+"/unregister", "1")
	await(t, "the set is gone", func() bool {
		_, err := os.Stat("/sys/fs/bcache/" + set.UUID)
		return errors.Is(err, os.ErrNotExist)
	})
	s.degraded(true)
	if read := s.read(path); read < size/512 {
		t.Errorf("%d sectors read from upstream without a set", read)
	}
	if got := s.start(); got != path {
		t.Errorf("Start returned %q, not %q that stands", got, path)
	}
	s.degraded(false)
	s.warm(path)
	closeIt()
}

// There is no cache device at all: the image is served, and it is told.
func TestNoCacheDevice(t *testing.T) {
	b, c := newBed(t, true)
	if _, err := c.Open(t.Context()); err != nil { // loads the module
		t.Fatal(err)
	}
	gone := newCache(t, b, "/dev/vmthunder-no-such-disk")
	if _, err := gone.Open(t.Context()); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("Open: %v", err)
	}
	s := newStack(t, b, gone)
	path := s.start()
	s.degraded(true)
	if read := s.read(path); read < size/512 {
		t.Errorf("%d sectors read from upstream", read)
	}
	// The disk is back.
	s.c = c
	if got := s.start(); got != path {
		t.Errorf("Start = %q, not %q", got, path)
	}
	s.degraded(false)
	s.read(path)
}

// udev registers the backing device as soon as it stands, before Start comes to it; and content that is
// in a set must survive that.
func TestRegisteredByOthers(t *testing.T) {
	b, c := newBed(t, true)
	s := newStack(t, b, c)
	path := s.start()
	s.warm(path)
	if err := c.Stop(t.Context(), s.spec, false); err != nil {
		t.Fatal(err)
	}
	name := driver.ImageDevice(imageID, driver.PartBack)
	d, err := b.DM.Create(t.Context(), name, dm.NewTable(dm.Linear(16, s.spec.Local[0], 0), dm.Linear(size/512, s.spec.Upstream, 0)), driver.CreateOptions{UUID: driver.DeviceUUID(name)})
	if err != nil {
		t.Fatal(err)
	}
	sysfs(t, "/sys/fs/bcache/register", d.Path)
	if read := s.read(s.start()); read > size/512/20 {
		t.Errorf("%d sectors read from upstream", read)
	}
	// A crash between the creation of the backing device and its registration.
	if err := c.Stop(t.Context(), s.spec, false); err != nil {
		t.Fatal(err)
	}
	if _, err := b.DM.Create(t.Context(), name, dm.NewTable(dm.Linear(16, s.spec.Local[0], 0)), driver.CreateOptions{UUID: driver.DeviceUUID(name)}); err != nil {
		t.Fatal(err)
	}
	if read := s.read(s.start()); read > size/512/20 {
		t.Errorf("%d sectors read from upstream", read)
	}
}

// Everything that can have the device open is seen before it is told to stop.
func TestBusy(t *testing.T) {
	b, c := newBed(t, true)
	s := newStack(t, b, c)
	path := s.start()
	busy := func(who string) {
		t.Helper()
		err := c.Stop(t.Context(), s.spec, true)
		if !errors.Is(err, driver.ErrBusy) || !strings.Contains(err.Error(), who) {
			t.Errorf("Stop while %s has it: %v", who, err)
		}
		s.degraded(false)
		s.read(path)
	}
	run := func(name string, args ...string) string {
		t.Helper()
		r, err := command.Exec{}.Run(t.Context(), command.Cmd{Name: name, Args: args})
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(r.Stdout))
	}
	run("modprobe", "loop")
	loop := run("losetup", "-f", "--show", "-r", path)
	busy(filepath.Base(loop))
	run("losetup", "-d", loop)
	await(t, "the loop device is free", func() bool {
		_, err := os.Stat("/sys/block/" + filepath.Base(loop) + "/loop")
		return err != nil
	})
	name := driver.Prefix + "test-holder"
	if _, err := b.DM.Create(t.Context(), name, dm.NewTable(dm.Linear(size/512, path, 0)), driver.CreateOptions{ReadOnly: true}); err != nil {
		t.Fatal(err)
	}
	busy("dm-")
	b.Remove(t, name)
	closeIt := b.Open(t, path)
	busy("process")
	closeIt()
}

// The set is in a file, on a loop device.
func TestSetOnFile(t *testing.T) {
	b, _ := newBed(t, true)
	file := filepath.Join(t.TempDir(), "cache.img")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 64*mib); err != nil {
		t.Fatal(err)
	}
	loops := loop.New(command.Exec{})
	c := bcache.New(bcache.Config{Device: file, DM: b.DM, Loop: loops, Runner: command.Exec{}, ReadAhead: 0})
	s := newStack(t, b, c)
	s.warm(s.start())
	if got := attr(t, s.start(), "queue/read_ahead_kb"); got != "0" {
		t.Errorf("read_ahead_kb = %s", got)
	}
	if err := c.Stop(t.Context(), s.spec, false); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := loops.Find(t.Context(), file); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("the loop device after Close: %v", err)
	}
	if read := s.read(s.start()); read > size/512/20 {
		t.Errorf("%d sectors read from upstream after the file was bound again", read)
	}
	if err := c.Stop(t.Context(), s.spec, true); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// The set's table of devices never shrinks; 512 generations fill that of a set with buckets of 64 KiB.
func TestTableOfSetFull(t *testing.T) {
	b, _ := newBed(t, true)
	small := b.Device(t, "small", 0, 64*2048, false)
	c := newCache(t, b, small)
	s := newStack(t, b, c)
	first, err := c.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	path := s.start()
	dir := filepath.Join("/sys/block", filepath.Base(path), "bcache")
	full := false
	for n := range 600 {
		sysfs(t, dir+"/detach", "1")
		await(t, "detached", func() bool {
			_, err := os.Lstat(dir + "/cache")
			return err != nil
		})
		if err := os.WriteFile(dir+"/attach", []byte(first.UUID), 0); err != nil {
			t.Logf("attached %d times: %v", n+1, err)
			full = true
			break
		}
	}
	if !full {
		t.Fatal("the table never got full")
	}
	s.degraded(true)
	s.read(path)
	if got := s.start(); got != path {
		t.Errorf("Start = %q, not %q", got, path)
	}
	s.degraded(false)
	if now, err := c.Open(t.Context()); err != nil || now.UUID == first.UUID {
		t.Errorf("the set is still %s: %v", now.UUID, err)
	}
	s.warm(path)
}

// A reboot without warning between two runs, VMT_TEST_BOOT=1 and 2 on the same disk; without
// the variable the first half is run, and stopped in order. The first run ends in a panic.
func TestContentOutlivesPowerCut(t *testing.T) {
	second := os.Getenv("VMT_TEST_BOOT") == "2"
	b, c := newBed(t, !second)
	content := bytes.Repeat([]byte("power"), size/5+1)[:size]
	upstream := b.Upstream(t, content)
	sb := b.Device(t, "sb", bed.SetSectors*2, bcache.LocalSectors, false)
	s := &stack{T: t, b: b, c: c, content: content, spec: driver.CacheSpec{
		ImageID: imageID, Sectors: size / 512, Upstream: upstream, Local: []string{sb}, Fresh: !second,
	}}
	path := s.start()
	read := s.read(path)
	t.Logf("%d of %d sectors read from upstream", read, size/512)
	if second && read > size/512/20 {
		t.Errorf("content was lost: %d of %d sectors read from upstream", read, size/512)
	}
	s.warm(path)
	if os.Getenv("VMT_TEST_BOOT") == "1" {
		// What reads have cached is in the set's tree on disk after half a minute.
		tree := func() string { return attr(t, path, "bcache/cache/cache0/btree_written") }
		written := tree()
		await(t, "the tree is on disk", func() bool { return tree() != written })
		sysfs(t, "/proc/sysrq-trigger", "c") // a panic: nothing is stopped or flushed
		select {}
	}
	if err := c.Stop(t.Context(), s.spec, true); err != nil {
		t.Error(err)
	}
}
