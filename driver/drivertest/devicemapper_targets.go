package drivertest

import (
	"fmt"
	"strings"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/dm"
)

// again makes a device twice and checks that the second time finds the first.
func (s *dmSuite) again(name string, ro bool, segments ...driver.Segment) driver.Device {
	s.Helper()
	d := s.made(name, ro, segments...)
	if second := s.made(name, ro, segments...); second != d {
		s.Errorf("%s: second time %+v, first %+v", name, second, d)
	}
	return d
}

// status returns the status line of a device of one target.
func (s *dmSuite) status(name string) string {
	s.Helper()
	t, err := s.m.Status(s.Context(), name)
	if err != nil || len(t) != 1 {
		s.Fatalf("status of %s: %v, %v", name, t, err)
	}
	return t[0].Params
}

func (s *dmSuite) snapshot() {
	origin := s.made("base", true, dm.Linear(4096, s.env.Disk, 1<<16), dm.Zero(4096))
	cow := s.made("cow", false, dm.Linear(4096, s.env.Disk, 4096))
	seg := dm.SnapshotTarget{Origin: origin.Path, Cow: cow.Path, ChunkSectors: 8}.Segment(8192)
	d := s.again("snap", false, seg)
	s.table("snap", fmt.Sprintf("0 8192 snapshot %s %s P 8", s.number(origin.Path), s.number(cow.Path)))
	st, err := dm.ParseSnapshotStatus(s.status(d.Name))
	if err != nil || st.Total != 4096 || st.Invalid {
		s.Errorf("status %+v, %v", st, err)
	}
	s.wants("remove of the origin", s.m.Remove(s.Context(), origin.Name), driver.ErrBusy)
	s.wants("remove of the store", s.m.Remove(s.Context(), cow.Name), driver.ErrBusy)
	too := dm.SnapshotTarget{Origin: origin.Path, Cow: cow.Path, ChunkSectors: 8}.Segment(8200)
	if _, err := s.m.Create(s.Context(), dmPrefix+"big", dm.NewTable(too), driver.CreateOptions{}); err == nil {
		s.Error("a snapshot larger than its origin was made")
	}
}

func (s *dmSuite) spread() {
	a := s.made("first", true, dm.Linear(4096, s.env.Disk, 0))
	b := s.made("second", true, dm.Linear(4096, s.env.Disk, 0))
	d := s.again("spread", true, dm.SwitchTarget{Devices: []string{a.Path, b.Path}, RegionSectors: 8}.Segment(4096))
	s.table("spread", fmt.Sprintf("0 4096 switch 2 8 0 %s 0 %s 0", s.number(a.Path), s.number(b.Path)))
	s.wants("remove of a device beneath", s.m.Remove(s.Context(), b.Name), driver.ErrBusy)
	s.wants("a device that is not there", func() error {
		seg := dm.SwitchTarget{Devices: []string{a.Path, "/dev/mapper/" + dmPrefix + "none"}, RegionSectors: 8}.Segment(4096)
		_, err := s.m.Create(s.Context(), dmPrefix+"lacks", dm.NewTable(seg), driver.CreateOptions{ReadOnly: true})
		return err
	}(), driver.ErrNotFound)
	if err := s.m.Remove(s.Context(), d.Name); err != nil {
		s.Error(err)
	}
}

func (s *dmSuite) multipath() {
	ctx := s.Context()
	for _, selector := range []string{"round-robin", "service-time"} {
		seg := dm.MultipathTarget{Device: s.env.Disk, Selector: selector, QueueIfNoPath: true}.Segment(2048)
		d := s.again(selector, true, seg)
		t, err := s.m.Table(ctx, d.Name)
		if err != nil || len(t) != 1 {
			s.Fatalf("table %v, %v", t, err)
		}
		p, err := dm.ParseMultipath(t[0])
		want := dm.MultipathTarget{Device: s.number(s.env.Disk), Selector: selector, QueueIfNoPath: true}
		if err != nil || p != want {
			s.Errorf("table %+v, %v; want %+v", p, err, want)
		}
		if st, err := dm.ParseMultipathStatus(s.status(d.Name)); err != nil || !st.Usable() || st.Paths[0].Device.String() != want.Device {
			s.Errorf("status %+v, %v", st, err)
		}
		if _, err := s.m.Message(ctx, d.Name, 0, "fail_path "+want.Device); err != nil {
			s.Errorf("fail_path: %v", err)
		}
		if st, err := dm.ParseMultipathStatus(s.status(d.Name)); err != nil || st.Usable() {
			s.Errorf("status after fail_path %+v, %v", st, err)
		}
		o := driver.ReloadOptions{ReadOnly: true, NoFlush: true, NoLockFS: true}
		if err := s.m.Reload(ctx, d.Name, dm.NewTable(seg), o); err != nil {
			s.Errorf("reload: %v", err)
		}
		if st, err := dm.ParseMultipathStatus(s.status(d.Name)); err != nil || !st.Usable() {
			s.Errorf("status after reload %+v, %v", st, err)
		}
	}
	none := s.again("nopath", true, dm.MultipathTarget{QueueIfNoPath: true}.Segment(2048))
	if st, err := dm.ParseMultipathStatus(s.status(none.Name)); err != nil || st.Usable() || len(st.Paths) != 0 {
		s.Errorf("status without path %+v, %v", st, err)
	}
	lin := s.made("lin", true, dm.Linear(2048, s.env.Disk, 0))
	over := dm.MultipathTarget{Device: lin.Path, QueueIfNoPath: true}.Segment(2048)
	if _, err := s.m.Create(ctx, dmPrefix+"over", dm.NewTable(over), driver.CreateOptions{ReadOnly: true}); err == nil {
		s.Error("multipath over a linear device was made")
	}
}

func (s *dmSuite) thin() {
	ctx := s.Context()
	meta := s.made("meta", false, dm.Linear(16384, s.env.Disk, 0))
	data := s.made("data", false, dm.Linear(20480, s.env.Disk, 16384))
	pool := s.again("pool", false, dm.ThinPoolTarget{Metadata: meta.Path, Data: data.Path, BlockSectors: 128}.Segment(20480))
	st, err := dm.ParseThinPoolStatus(s.status(pool.Name))
	if err != nil || st.Mode != dm.PoolReadWrite || st.Data != 160 || st.Metadata != 2048 || st.UsedData != 0 || st.ErrorIfNoSpace {
		s.Errorf("pool status %+v, %v", st, err)
	}
	say := func(message string) error { _, err := s.m.Message(ctx, pool.Name, 0, message); return err }
	device := func(name string, id uint32) error {
		_, err := s.m.Create(ctx, dmPrefix+name, dm.NewTable(dm.ThinTarget{Pool: pool.Path, ID: id}.Segment(100000)), dmOptions(name, false))
		return err
	}
	s.wants("a thin device that never was", device("t7", 7), driver.ErrNotFound)
	if err := say("create_thin 7"); err != nil {
		s.Fatal(err)
	}
	s.wants("create_thin twice", say("create_thin 7"), driver.ErrExists)
	s.wants("create_snap of nothing", say("create_snap 8 99"), driver.ErrNotFound)
	s.wants("delete of nothing", say("delete 99"), driver.ErrNotFound)
	for range 2 {
		if err := device("t7", 7); err != nil {
			s.Fatal(err)
		}
	}
	if st, err := dm.ParseThinStatus(s.status(dmPrefix + "t7")); err != nil || st.Mapped != 0 || st.Failed {
		s.Errorf("thin status %+v, %v", st, err)
	}
	s.wants("delete of an active one", say("delete 7"), driver.ErrBusy)
	s.wants("remove of the pool", s.m.Remove(ctx, pool.Name), driver.ErrBusy)
	if err := s.m.Suspend(ctx, dmPrefix+"t7", driver.ReloadOptions{}); err != nil {
		s.Fatal(err)
	}
	if err := say("create_snap 8 7"); err != nil {
		s.Error(err)
	}
	if err := s.m.Resume(ctx, dmPrefix+"t7"); err != nil {
		s.Error(err)
	}
	if err := device("t8", 8); err != nil {
		s.Error(err)
	}
	for _, name := range []string{"t7", "t8"} {
		if err := s.m.Remove(ctx, dmPrefix+name); err != nil {
			s.Error(err)
		}
	}
	if err := say("delete 7"); err != nil {
		s.Error(err)
	}
	s.wants("a deleted one", device("t7", 7), driver.ErrNotFound)
	if err := device("t8", 8); err != nil {
		s.Errorf("the snapshot of a deleted one: %v", err)
	}
}

func (s *dmSuite) cache() {
	meta := s.made("meta", false, dm.Linear(8192, s.env.Disk, 0))
	local := s.made("local", false, dm.Linear(16384, s.env.Disk, 8192))
	origin := s.made("origin", true, dm.Linear(32768, s.env.Disk, 32768))
	for _, mode := range []string{"writethrough"} {
		seg := dm.CacheTarget{Metadata: meta.Path, Cache: local.Path, Origin: origin.Path, BlockSectors: 64, Mode: mode}.Segment(32768)
		d := s.again("cache", false, seg)
		if st, err := dm.ParseCacheStatus(s.status(d.Name)); err != nil || st.Mode != mode || st.Blocks != 256 || st.BlockSectors != 64 || st.NeedsCheck || st.ReadOnly {
			s.Errorf("status %+v, %v", st, err)
		}
		t, err := s.m.Table(s.Context(), d.Name)
		if err != nil || len(t) != 1 {
			s.Fatalf("table %v, %v", t, err)
		}
		p, err := dm.ParseCache(t[0])
		want := dm.CacheTarget{Metadata: s.number(meta.Path), Cache: s.number(local.Path), Origin: s.number(origin.Path), BlockSectors: 64, Mode: mode, Policy: "smq"}
		if err != nil || p != want {
			s.Errorf("table %+v, %v; want %+v", p, err, want)
		}
	}
	bad := dm.CacheTarget{Metadata: meta.Path, Cache: local.Path, Origin: origin.Path, BlockSectors: 10, Mode: "writethrough"}.Segment(32768)
	_, err := s.m.Create(s.Context(), dmPrefix+"bad", dm.NewTable(bad), driver.CreateOptions{})
	if err == nil || strings.TrimSpace(err.Error()) == "" {
		s.Errorf("a block of 10 sectors: %v", err)
	}
}
