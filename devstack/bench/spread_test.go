package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestBootSet(t *testing.T) {
	const image = 8 << 20
	for seed := range uint64(20) {
		set := bootSet(seed, image, image/2)
		if !slices.Equal(set, bootSet(seed, image, image/2)) {
			t.Fatalf("seed %d: two sets", seed)
		}
		var sum int64
		for _, e := range set {
			sum += e.size
			if e.at%extentUnit != 0 || e.size%extentUnit != 0 || e.size <= 0 || e.size > 64<<10 || e.at+e.size > image {
				t.Errorf("seed %d: extent %+v", seed, e)
			}
		}
		if sum != image/2 {
			t.Errorf("seed %d: %d bytes", seed, sum)
		}
		if slices.IsSortedFunc(set, func(a, b extent) int { return int(a.at - b.at) }) {
			t.Errorf("seed %d: in order", seed)
		}
		slices.SortFunc(set, func(a, b extent) int { return int(a.at - b.at) })
		for i := range set[1:] {
			if set[i].at+set[i].size > set[i+1].at {
				t.Errorf("seed %d: %+v and %+v overlap", seed, set[i], set[i+1])
			}
		}
	}
	if slices.Equal(bootSet(1, image, image/2), bootSet(2, image, image/2)) {
		t.Error("two seeds, one set")
	}
	if got := bootSet(3, image, image); len(got) < image/(64<<10) {
		t.Errorf("a set of the whole image has %d extents", len(got))
	}
}

func TestWriteImage(t *testing.T) {
	var a, b bytes.Buffer
	for _, w := range []*bytes.Buffer{&a, &b} {
		if err := writeImage(w, 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Error("two images")
	}
	seen := map[string]bool{}
	for block := range slices.Chunk(a.Bytes(), extentUnit) {
		if seen[string(block)] {
			t.Fatal("two blocks alike")
		}
		seen[string(block)] = true
	}
}

// The program that runs in nodes comes to the sum that is wanted, reads what it is told
// to, copies first if told so, and does not begin before the word.
func TestSetReader(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3, which devstack/packages.sh installs")
	}
	var img bytes.Buffer
	if err := writeImage(&img, 1<<20); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "image")
	if err := os.WriteFile(path, img.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		t.Skipf("no direct I/O in %s: %v", dir, err)
	}
	unix.Close(fd)
	set := bootSet(1, 1<<20, 1<<19)
	want, err := setSum(bytes.NewReader(img.Bytes()), set)
	if err != nil {
		t.Fatal(err)
	}
	run := func(set []extent, path, source string) (string, error) {
		list, err := json.Marshal(set)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), python, "-c", setReader, path, "4", source)
		cmd.Stdin = strings.NewReader(string(list) + "\ngo\n")
		out, err := cmd.Output()
		return strings.TrimSpace(strings.TrimPrefix(string(out), "ready\n")), err
	}
	if got, err := run(set, path, ""); err != nil || got != want {
		t.Errorf("sum %q, %v; wanted %s", got, err, want)
	}
	if got, err := run(set, filepath.Join(dir, "copy"), path); err != nil || got != want {
		t.Errorf("after a copy: sum %q, %v; wanted %s", got, err, want)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "copy")); err != nil || !bytes.Equal(b, img.Bytes()) {
		t.Errorf("the copy is another (%v)", err)
	}
	other := slices.Clone(set)
	other[0].at = (other[0].at + extentUnit) % (1<<20 - extentUnit*extentMost)
	if got, err := run(other, path, ""); err != nil || got == want {
		t.Errorf("another extent, and the sum is %q, %v", got, err)
	}
	other[0].at = 1<<20 - extentUnit
	other[0].size = 2 * extentUnit
	if got, err := run(other, path, ""); err == nil {
		t.Errorf("an extent beyond the end was read: %q", got)
	}
}

func TestSetSum(t *testing.T) {
	image := []byte(strings.Repeat("a", 4096) + strings.Repeat("b", 4096))
	got, err := setSum(bytes.NewReader(image), []extent{{4096, 4096}, {0, 4096}})
	each := fmt.Sprintf("%08x%08x", crc32.ChecksumIEEE(image[4096:]), crc32.ChecksumIEEE(image[:4096]))
	if want := fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(each))); err != nil || got != want {
		t.Errorf("sum %q, %v; wanted %s", got, err, want)
	}
	if _, err := setSum(bytes.NewReader(image), []extent{{4096, 8192}}); err == nil {
		t.Error("an extent beyond the end has a sum")
	}
}

func TestParseCPU(t *testing.T) {
	a, b := parseCPU("cpu  100 1 50 800 40 5 3 1 60 0"), parseCPU("cpu  160 1 80 890 50 5 8 6 90 0")
	if want := (cpuTime{busy: 160, all: 1000}); a != want {
		t.Errorf("%+v, wanted %+v", a, want)
	}
	if got := b.busySince(a); got != 0.5 {
		t.Errorf("busy %v, wanted 0.5", got)
	}
	if got := a.busySince(a); got != 0 {
		t.Errorf("in no time %v", got)
	}
	if got := parseCPU(""); got != (cpuTime{}) {
		t.Errorf("nothing is %+v", got)
	}
}

func TestTreeWords(t *testing.T) {
	ms := []spreadMember{
		{Host: "origin", Role: "root", State: "active"},
		{Host: "a", Role: "relay", State: "active", Parent: "origin", ObservedParent: "origin"},
		{Host: "b", Role: "relay", State: "active", Parent: "a", ObservedParent: "a"},
	}
	if why := treeUnsettled(ms, 2); why != "" {
		t.Error(why)
	}
	if treeUnsettled(ms, 3) == "" || treeUnsettled(ms[:1], 1) == "" {
		t.Error("somebody is missing, and all is settled")
	}
	if n, m := treeChildren(ms, "origin"), treeChildren(ms, "b"); n != 1 || m != 0 {
		t.Errorf("children %d and %d", n, m)
	}
	before := treeShape(ms)
	ms[2].ObservedParent = "origin"
	if treeShape(ms) == before || treeUnsettled(ms, 2) == "" {
		t.Error("b reads from another, and nobody notices")
	}
	ms[2].ObservedParent, ms[2].State = "a", "joining"
	if treeUnsettled(ms, 2) == "" {
		t.Error("b is joining, and all is settled")
	}
}

func TestSpreadRows(t *testing.T) {
	rate := spreadRate{name: "1mbit", words: "1 Mbit/s", bytes: spreadSet / 2} // the set takes 2 s
	c := &spreadContestant{degree: 2, results: []spreadResult{
		{seconds: 4, origin: 2, relay: 1, busy: 0.5, kernels: 3, request: 4096}, {seconds: 6, origin: 2.2, relay: 1.2, busy: 0.5, kernels: 5, request: 8192, moved: 1},
	}}
	rows := c.rows(rate, 2, true)
	if len(rows) != 3 {
		t.Fatalf("%d rows", len(rows))
	}
	if !slices.Equal(rows[0].Samples, []float64{2, 3}) || rows[0].Goal.AtMost != 2.3 || rows[0].Met() {
		t.Errorf("time %+v", rows[0])
	}
	if !slices.Equal(rows[1].Samples, []float64{2, 2.2}) || rows[1].Goal.AtMost != 2.1 || !rows[1].Met() {
		t.Errorf("origin %+v", rows[1])
	}
	if !slices.Equal(rows[2].Samples, []float64{1, 1.2}) || rows[2].Goal.AtMost != 1.05 || rows[2].Met() {
		t.Errorf("relay %+v", rows[2])
	}
	for _, w := range []string{"4.0 s", "6.0 KiB", "2 runs", "1 run"} {
		if !strings.Contains(rows[0].Note, w) {
			t.Errorf("note %q does not say %q", rows[0].Note, w)
		}
	}
	if strings.Contains(rows[0].Note, "limit") {
		t.Errorf("note %q", rows[0].Note)
	}
	for i := range c.results {
		c.results[i].busy = 0.98
	}
	if n := c.rows(rate, 2, false)[0].Note; !strings.Contains(n, "40 %") || !strings.Contains(n, "other programs the rest (98 % busy)") {
		t.Errorf("note %q", n)
	}
	if n := c.rows(rate, 1, false)[0].Note; !strings.Contains(n, "80 %") || !strings.Contains(n, "the processors are the limit") {
		t.Errorf("note %q", n)
	}
	rate.oneOnly = true
	if rows := c.rows(rate, 2, false); len(rows) != 1 {
		t.Errorf("%d rows at the lower rate", len(rows))
	}
	peer := &spreadContestant{who: "peer", note: "n", results: c.results}
	for _, r := range peer.rows(spreadRate{words: "x", bytes: 1}, 2, false) {
		if r.Who != "peer" || r.Goal != nil {
			t.Errorf("%+v", r)
		}
	}
}
