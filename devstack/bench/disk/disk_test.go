package disk

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

const mib = 1 << 20

// disk is a file that direct I/O works on.
func disk(t *testing.T, size int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECT, 0)
	if errors.Is(err, unix.EINVAL) {
		t.Skip("no direct I/O in " + filepath.Dir(path))
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(fd)
	return path
}

func ask(t *testing.T, rs ...Request) []Answer {
	t.Helper()
	var in, out bytes.Buffer
	e := json.NewEncoder(&in)
	for _, r := range rs {
		if err := e.Encode(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := Serve(&in, &out); err != nil {
		t.Fatal(err)
	}
	var as []Answer
	for line := range strings.Lines(out.String()) {
		var a Answer
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatal(err)
		}
		as = append(as, a)
	}
	if len(as) != len(rs) {
		t.Fatalf("%d answers to %d requests", len(as), len(rs))
	}
	return as
}

func TestReads(t *testing.T) {
	path := disk(t, 2*mib)
	as := ask(t,
		Request{Op: First, Path: path},
		Request{Op: Scan, Path: path, Offset: mib / 2, Bytes: mib},
		Request{Op: Random, Path: path, Bytes: 2 * mib, Count: 300},
		Request{Op: Random, Path: path, Bytes: 2 * mib, Count: 300, Depth: 16},
		Request{Op: Random, Path: path, Bytes: 2 * mib, Slot: mib / 4, Depth: 16}, // fewer than the depth
	)
	for i, want := range []int{0, 0, 300, 300, 8} {
		a := as[i]
		if a.Error != "" || len(a.Ns) != want {
			t.Errorf("request %d: %q, %d reads, want %d", i, a.Error, len(a.Ns), want)
		}
		if slices.ContainsFunc(a.Ns, func(ns int64) bool { return ns <= 0 }) {
			t.Errorf("request %d: a read took no time: %v", i, a.Ns)
		}
	}
}

func TestFailuresAreTold(t *testing.T) {
	path := disk(t, mib)
	for i, a := range ask(t,
		Request{Op: "nonsense", Path: path},
		Request{Op: First, Path: path + "-not"},
		Request{Op: Scan, Path: path, Bytes: 2 * mib},
		Request{Op: Random, Path: path, Offset: mib, Bytes: mib, Count: 40},
		Request{Op: Random, Path: path, Offset: mib, Bytes: mib, Count: 40, Depth: 16},
		Request{Op: Counted, Path: path},
	) {
		if a.Error == "" {
			t.Errorf("request %d succeeded: %+v", i, a)
		}
	}
}

func TestPlaces(t *testing.T) {
	r := Request{Offset: mib, Bytes: mib, Count: 1000, Seed: 7}
	at := r.places()
	if len(at) != 1000 || !slices.Equal(at, r.places()) {
		t.Error("the same seed gives other places")
	}
	distinct := map[int64]bool{}
	for _, o := range at {
		distinct[o] = true
		if o < mib || o > 2*mib-ReadBytes || o%ReadBytes != 0 {
			t.Fatalf("offset %d", o)
		}
	}
	if len(distinct) < 200 {
		t.Errorf("%d places of 256", len(distinct))
	}
	r.Slot = mib / 16
	at = r.places()
	if slices.IsSorted(at) {
		t.Error("slots are read in order")
	}
	slices.Sort(at)
	for i, o := range at {
		if o/r.Slot != int64(16+i) || o%ReadBytes != 0 {
			t.Fatalf("offset %d in slot %d", o, i)
		}
	}
	if len(at) != 16 {
		t.Errorf("%d slots", len(at))
	}
}

func TestMicros(t *testing.T) {
	a := Answer{Ns: []int64{20_000, 16_000, 120_500}, Clock: 17_000}
	if got := a.Micros(); !slices.Equal(got, []float64{3, 0, 103.5}) {
		t.Error(got)
	}
}

func TestStructures(t *testing.T) {
	if n := unsafe.Sizeof(iocb{}); n != 64 {
		t.Errorf("iocb has %d bytes", n)
	}
	if n := unsafe.Sizeof(ioEvent{}); n != 32 {
		t.Errorf("io_event has %d bytes", n)
	}
}
