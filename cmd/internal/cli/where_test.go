package cli

import (
	"slices"
	"strings"
	"testing"

	"github.com/vmthunder/vmthunder/api/v3/view"
)

func TestWay(t *testing.T) {
	is := func(s string) *string { return &s }
	members := []view.Member{
		{Host: "o1"}, {Host: "n1", Parent: is("o1")}, {Host: "n2", Parent: is("n1")},
		{Host: "n3", Parent: is("n2"), ObservedParent: "o1"},                                 // still, or already
		{Host: "n4", Parent: is("o1"), ObservedParent: "n5"}, {Host: "n5", Parent: is("n4")}, // crossing moves
	}
	for host, want := range map[string][]string{
		"o1": {"o1"}, "n2": {"n2", "n1", "o1"}, "n3": {"n3", "o1"}, "elsewhere": {},
	} {
		if got := way(members, host); !slices.Equal(got, want) {
			t.Errorf("way of %s: %v, want %v", host, got, want)
		}
	}
	if got := way(members, "n4"); len(got) > len(members) {
		t.Errorf("way of n4 goes round: %v", got)
	}
}

func TestPrintPlace(t *testing.T) {
	var b strings.Builder
	p := place{
		ID: "v", Name: "vm-1", Status: "in-use", SizeGiB: 3, Project: "p", Home: "n1", State: "up", ImageID: "i", ImageName: "ubuntu12",
		Way: []string{"n1", "o1"}, Attached: []holder{{Host: "n1", Connection: "local", Device: "/dev/vda", Server: "s"}, {}},
	}
	if err := printPlace(&b, p); err != nil {
		t.Fatal(err)
	}
	want := `volume    v
name      vm-1
project   p
status    in-use
size      3 GiB
home      n1 (up)
image     ubuntu12 (i)
reads     n1 ← o1
attached  n1, local, /dev/vda, server s
attached  reserved
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	b.Reset()
	if err := printPlace(&b, place{ID: "v", Status: "error", Reason: "the image is broken", SizeGiB: 1}); err != nil {
		t.Fatal(err)
	}
	if s := b.String(); !strings.Contains(s, "error: the image is broken\n") || !strings.Contains(s, "none yet") || strings.Contains(s, "reads") {
		t.Errorf("got\n%s", s)
	}
}

func TestPrintNode(t *testing.T) {
	var b strings.Builder
	why := "disk"
	n := view.Node{Host: "n1", Alive: true, DisabledReason: &why, Compute: true, CacheDriver: "bcache", CacheReason: "the kernel has it",
		PoolState: "rw", PoolTotal: 4 << 30, PoolFree: 1 << 30, Problems: []byte(`["no cache device"]`)}
	if err := printNode(&b, n); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"up, disabled\n", "disabled because  disk\n", "rw, 1.0 GiB of 4.0 GiB free", "bcache (the kernel has it)", "problem           no cache device\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
	if strings.Contains(b.String(), "room for images") {
		t.Error("it is no origin")
	}
}
