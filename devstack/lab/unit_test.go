package lab

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseStat(t *testing.T) {
	const line = "23853 (beam.smp) S 23847 23847 23847 0 -1 4194304 40510 52 13 0 512 98 0 1 20 0 24 0 101812 2432450560 27000 18446744073709551615 1 1 0 0 0 0 0 4224 16899 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
	want := procStat{pid: 23853, ppid: 23847, pgrp: 23847, session: 23847, state: 'S', ticks: 101812, cpu: 610}
	for _, s := range []string{line, strings.Replace(line, "beam.smp", "a ) b (c", 1)} {
		got, err := parseStat(s)
		if err != nil || got != want {
			t.Errorf("%q: got %+v, %v, want %+v", s, got, err, want)
		}
	}
	for _, s := range []string{"", "1", "1 (a", "1 (a) S 1 1", ") (", strings.Replace(line, "101812", "x", 1)} {
		if _, err := parseStat(s); !errors.Is(err, errStat) {
			t.Errorf("%q: %v", s, err)
		}
	}
	self, err := readStat(os.Getpid())
	if err != nil || self.pid != os.Getpid() || self.ppid != os.Getppid() {
		t.Errorf("of this process: %+v, %v", self, err)
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add("23853 (beam.smp) S 23847 23847 23847 0 -1 4194304 40510 52 13 0 512 98 0 1 20 0 24 0 101812 2")
	f.Add("1 () ")
	f.Fuzz(func(_ *testing.T, s string) { _, _ = parseStat(s) })
}

// A recycled number is another process.
func TestProcIdentity(t *testing.T) {
	me, err := identify(os.Getpid())
	if err != nil || !me.alive() {
		t.Fatalf("%+v, %v", me, err)
	}
	other := procID{Pid: me.Pid, Ticks: me.Ticks - 1}
	if other.alive() {
		t.Error("another start time, the same process")
	}
	if err := other.signal(9); err != nil { // would end this test
		t.Error(err)
	}
	if err := other.gone(t.Context()); err != nil {
		t.Error(err)
	}
	if (procID{}).alive() {
		t.Error("no process is alive")
	}
}

func TestClosure(t *testing.T) {
	for _, c := range []struct{ in, want []Service }{
		{nil, nil},
		{[]Service{Rabbit}, []Service{Rabbit}},
		{[]Service{Keystone}, []Service{Postgres, Memcached, Keystone}},
		{[]Service{Cinder}, []Service{Postgres, Rabbit, Memcached, Keystone, Glance, Cinder}},
		{[]Service{Glance, Rabbit, Glance}, []Service{Postgres, Rabbit, Memcached, Keystone, Glance}},
		{[]Service{Nova}, []Service{Postgres, Rabbit, Memcached, Keystone, Glance, Placement, Neutron, Nova}},
	} {
		got, err := closure(c.in)
		if d := cmp.Diff(c.want, got); d != "" || err != nil {
			t.Errorf("%v: %v %s", c.in, err, d)
		}
	}
	if _, err := closure([]Service{"mysql"}); !errors.Is(err, ErrOptions) {
		t.Errorf("unknown service: %v", err)
	}
}

func TestComputes(t *testing.T) {
	nodes := []NodeSpec{{Name: "origin"}, {Name: "node1"}}
	for _, c := range []struct {
		o    Options
		want []string
	}{
		{Options{}, nil},
		{Options{Nodes: nodes}, []string{"origin", "node1"}},
		{Options{Nodes: nodes, Computes: []string{"node1", "elsewhere"}}, []string{"node1", "elsewhere"}},
		{Options{Nodes: nodes, Computes: []string{}}, []string{}},
	} {
		if d := cmp.Diff(c.want, computes(c.o)); d != "" {
			t.Errorf("%+v: %s", c.o, d)
		}
	}
}

func TestNodeSpecFill(t *testing.T) {
	s := NodeSpec{Name: "n1"}
	if err := s.fill(); err != nil || s != (NodeSpec{Name: "n1", Memory: 256, Pool: 4 << 30, Cache: 1 << 30, State: 2 << 30}) {
		t.Errorf("%+v, %v", s, err)
	}
	for _, bad := range []NodeSpec{{}, {Name: "A"}, {Name: "a/b"}, {Name: "a", Memory: 1}, {Name: "a", Pool: 5000}, {Name: strings.Repeat("a", 21)}} {
		if err := bad.fill(); !errors.Is(err, ErrOptions) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestParseBooted(t *testing.T) {
	for in, want := range map[string]VMBoot{
		"":                              {},
		"BOOTED vol 3":                  {}, // the line may go on
		"BOOTED vol 3\r\n":              {ID: "vol", Count: 3},
		"noise\r\nBOOTED vol 12\r\nx":   {ID: "vol", Count: 12},
		"BOOTED vol x\n":                {},
		"[1.2] NOT BOOTED vol 3\r\n":    {},
		"BOOTFAILED checksums differ\n": {},
	} {
		got, ok := parseBooted(in)
		if got != want || ok != (want != VMBoot{}) {
			t.Errorf("%q: %+v, %v", in, got, ok)
		}
	}
}

func TestRate(t *testing.T) {
	for s, want := range map[string]bool{"100mbit": true, "1.5gbit": true, "8bps": true, "100": false, "1mbit; reboot": false, "": false, "-1mbit": false} {
		if rateRE.MatchString(s) != want {
			t.Errorf("%q", s)
		}
	}
}
