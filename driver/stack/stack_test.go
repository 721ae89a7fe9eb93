package stack

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver"
)

const (
	img  = "11111111-1111-4111-8111-111111111111"
	volA = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
	volB = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
)

var host = Host{Name: "node1", Address: "10.0.0.1:3260", PageLoops: PageLoops, Needs: func(uint64) []driver.LocalDevice {
	return []driver.LocalDevice{{Suffix: "sb", Sectors: 128}}
}}

func portal(h string) model.ParentPortal {
	return model.ParentPortal{Host: h, Address: h + ":3260", IQN: driver.ImageIQN(h, img), User: "node1", Secret: "0123456789abcdef"}
}

func relay(state model.Presence, parent string, alternates ...string) *model.DesiredImage {
	p := portal(parent)
	d := &model.DesiredImage{ID: img, Role: model.RoleRelay, State: state, DeviceBytes: 1 << 20, Parent: &p, ThinBase: 10}
	for _, a := range alternates {
		d.Alternates = append(d.Alternates, portal(a))
	}
	return d
}

func volume(id string, state model.Presence, thin uint32) model.DesiredVolume {
	return model.DesiredVolume{ID: id, ImageID: img, State: state, Bytes: 2 << 30, ThinID: thin}
}

func newKernel() *kernel { return &kernel{node: newNode(), tables: map[string]driver.Table{}} }

func ops(steps []Step) string {
	var out []string
	for _, s := range steps {
		out = append(out, string(s.Op))
	}
	return strings.Join(out, ", ")
}

func mustSettle(t *testing.T, k *kernel, i *model.DesiredImage, vols ...model.DesiredVolume) []Step {
	t.Helper()
	steps, err := k.settle(host, i, vols, -1)
	if err != nil {
		t.Fatal(err)
	}
	return steps
}

func TestRelayIsBuiltBottomUp(t *testing.T) {
	k := newKernel()
	child := model.Child{Host: "node2", Initiator: "iqn.node2", User: "node2", Secret: "0123456789abcdef"}
	d := relay(model.Present, "origin")
	d.Children = []model.Child{child}
	got := ops(mustSettle(t, k, d, volume(volA, model.Present, 20)))
	want := "log in, make path, make local, start cache, make page, make relay, export, create thin, activate thin, make device, make device"
	if got != want {
		t.Errorf("steps\n got %s\nwant %s", got, want)
	}
	// A warm volume of the same image takes these steps and no others.
	got = ops(mustSettle(t, k, d, volume(volA, model.Present, 20), volume(volB, model.Present, 21)))
	if want := "create thin, activate thin, make device, make device"; got != want {
		t.Errorf("second volume: %s, want %s", got, want)
	}
	if again := mustSettle(t, k, d, volume(volA, model.Present, 20), volume(volB, model.Present, 21)); len(again) != 0 {
		t.Errorf("applied twice, the second time did %s", ops(again))
	}
}

func TestMaterializedVolumeIsNeverCreated(t *testing.T) {
	k := newKernel()
	v := volume(volA, model.Present, 20)
	v.Materialized = true
	_, err := k.settle(host, relay(model.Present, "origin"), []model.DesiredVolume{v}, -1)
	if !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("a volume whose thin device is lost: error %v, want not found", err)
	}
	if k.thins[20] {
		t.Error("an empty thin device was made in place of lost data")
	}
}

func TestParentIsExchangedUnderTheStack(t *testing.T) {
	k := newKernel()
	mustSettle(t, k, relay(model.Present, "origin"), volume(volA, model.Present, 20))
	got := ops(mustSettle(t, k, relay(model.Present, "node9"), volume(volA, model.Present, 20)))
	if want := "log in, switch path, log out"; got != want {
		t.Errorf("steps %s, want %s", got, want)
	}
	if h, ok := k.actual.Parent(img); h != "node9" || !ok {
		t.Errorf("reads from %s (healthy %v), want node9", h, ok)
	}
}

func TestFallbackIsTakenWithoutAsking(t *testing.T) {
	k := newKernel()
	d := relay(model.Present, "node8", "node9")
	mustSettle(t, k, d)
	k.actual.Sessions[0].State = driver.SessionFailed
	k.actual.Paths[img] = Path{Number: k.actual.Paths[img].Number, Failed: true}
	k.down["node8:3260"] = true
	steps, err := k.settle(host, d, nil, -1)
	if !errors.Is(err, driver.ErrUnreachable) { // the way back to the parent goes on being tried
		t.Errorf("error %v, want unreachable", err)
	}
	if want := "log in, switch path, log in"; ops(steps) != want {
		t.Errorf("steps %s, want %s", ops(steps), want)
	}
	if h, ok := k.actual.Parent(img); h != "node9" || !ok {
		t.Errorf("reads from %s (healthy %v), want node9", h, ok)
	}
	delete(k.down, "node8:3260")
	mustSettle(t, k, d)
	if h, _ := k.actual.Parent(img); h != "node8" {
		t.Errorf("the parent is back, but reads go through %s", h)
	}
	if len(k.actual.Sessions) != 1 {
		t.Errorf("%d sessions are left, want 1", len(k.actual.Sessions))
	}
}

func TestSessionThatComesBackIsReinstated(t *testing.T) {
	k := newKernel()
	d := relay(model.Present, "node8")
	mustSettle(t, k, d)
	k.actual.Paths[img] = Path{Number: k.actual.Paths[img].Number, Failed: true}
	if got := ops(mustSettle(t, k, d)); got != "reinstate path" {
		t.Errorf("steps %s, want reinstate path", got)
	}
}

func TestAbsentLeavesNothing(t *testing.T) {
	k := newKernel()
	d := relay(model.Present, "origin")
	d.Children = []model.Child{{Host: "c", Initiator: "iqn.c", User: "c", Secret: "0123456789abcdef"}}
	v := volume(volA, model.Present, 20)
	v.Hosts = d.Children
	mustSettle(t, k, d, v)
	v.State, v.Hosts, d.State, d.Children = model.Absent, nil, model.Absent, nil
	mustSettle(t, k, d, v)
	images, volumes := k.actual.IDs()
	if len(images)+len(volumes)+len(k.thins)+len(k.actual.Pages)+len(k.actual.Caches) != 0 {
		t.Errorf("left: images %v volumes %v thins %v pages %v caches %v", images, volumes, k.thins, k.actual.Pages, k.actual.Caches)
	}
}

// A bcache that was being stopped when the agent was has no cached device any more, but still its backing
// device, which holds the path.
func TestHalfStoppedCacheIsStopped(t *testing.T) {
	k := newKernel()
	d := relay(model.Present, "origin")
	mustSettle(t, k, d)
	d.State = model.Absent
	page := driver.ImageDevice(img, driver.PartPage)
	delete(k.actual.Pages, img)
	delete(k.actual.Devices, page)
	delete(k.tables, page)
	delete(k.actual.Caches, img)
	mustSettle(t, k, d)
	if images, _ := k.actual.IDs(); len(images)+len(k.actual.Devices)+len(k.actual.Sessions) != 0 {
		t.Errorf("left: %v, %v", k.actual.Devices, k.actual.Sessions)
	}
}

func TestInactiveKeepsData(t *testing.T) {
	k := newKernel()
	mustSettle(t, k, relay(model.Present, "origin"), volume(volA, model.Present, 20))
	mustSettle(t, k, relay(model.Present, "origin"), volume(volA, model.Inactive, 20))
	if _, volumes := k.actual.IDs(); len(volumes) != 0 {
		t.Errorf("devices are left: %v", volumes)
	}
	if !k.thins[20] {
		t.Error("the thin device, and with it the data, is gone")
	}
}

func TestRootOrder(t *testing.T) {
	k := newKernel()
	d := &model.DesiredImage{ID: img, Role: model.RoleRoot, State: model.Present, Source: &model.ImageSource{}, Children: []model.Child{{Initiator: "iqn.c", User: "c", Secret: "0123456789abcdef"}}}
	if got, want := ops(mustSettle(t, k, d)), "import image, make page, make relay, export"; got != want {
		t.Errorf("steps %s, want %s", got, want)
	}
	d.State, d.Children = model.Absent, nil
	if got, want := ops(mustSettle(t, k, d)), "end export, remove device, drop page, remove image"; got != want {
		t.Errorf("steps %s, want %s", got, want)
	}
}

// The COW store can hold every chunk of the volume with its metadata.
func TestCowNeverOverflows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.Uint64Range(1, 1<<34).Draw(t, "sectors")
		chunks := (v + ChunkSectors - 1) / ChunkSectors
		areas := (chunks + 255) / 256
		if need := (1 + areas + chunks) * ChunkSectors; CowSectors(v) < need {
			t.Fatalf("%d sectors for %d, need %d", CowSectors(v), v, need)
		}
		if over := CowSectors(v) - v; over > v/200+ChunkSectors*(2*257+2) {
			t.Fatalf("%d sectors for %d: %d over", CowSectors(v), v, over)
		}
	})
}

// Whatever is asked for, in whatever order, cut short after any step, with parents
// dying meanwhile: in the end what was asked for last stands, no step is one a kernel
// would refuse, data goes only where absent was said, and doing it again does nothing.
func TestConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := newKernel()
		parents := []string{"origin", "node8", "node9"}
		gone := map[uint32]bool{}
		var d *model.DesiredImage
		var vols []model.DesiredVolume
		for range rapid.IntRange(1, 8).Draw(t, "documents") {
			d = relay(model.Present, rapid.SampledFrom(parents).Draw(t, "parent"), rapid.SampledFrom(parents).Draw(t, "alternate"))
			if rapid.Bool().Draw(t, "children") {
				d.Children = []model.Child{{Host: "c", Initiator: "iqn.c", User: "c", Secret: rapid.SampledFrom([]string{"0123456789abcdef", "fedcba9876543210"}).Draw(t, "secret")}}
			}
			vols = nil
			for i, id := range []string{volA, volB} {
				v := volume(id, rapid.SampledFrom([]model.Presence{model.Present, model.Inactive, model.Absent}).Draw(t, "state"), uint32(20+i))
				if gone[v.ThinID] {
					v.State = model.Absent // a deleted volume does not come back
				}
				v.Materialized = k.thins[v.ThinID]
				gone[v.ThinID] = v.State == model.Absent
				if v.State == model.Present && rapid.Bool().Draw(t, "exported") {
					v.Hosts = []model.Child{{Host: "h", Initiator: "iqn.h", User: "h", Secret: "0123456789abcdef"}}
				}
				vols = append(vols, v)
			}
			had := map[uint32]bool{20: k.thins[20], 21: k.thins[21]}
			if len(k.actual.Sessions) > 0 && rapid.Bool().Draw(t, "lost") {
				i := rapid.IntRange(0, len(k.actual.Sessions)-1).Draw(t, "session")
				k.actual.Sessions[i].State = driver.SessionFailed
			}
			if _, err := k.settle(host, d, vols, rapid.IntRange(0, 12).Draw(t, "budget")); err != nil {
				t.Fatalf("%v", err)
			}
			for i, v := range vols {
				if id := uint32(20 + i); had[id] && !k.thins[id] && v.State != model.Absent {
					t.Fatalf("data of %s was deleted though %s was asked for", v.ID, v.State)
				}
			}
			if rapid.Bool().Draw(t, "agent restarts") {
				k.actual.Ensured, k.actual.Gone = map[string]string{}, map[string]bool{}
			}
		}
		for i := range vols {
			vols[i].Materialized = k.thins[vols[i].ThinID]
		}
		if _, err := k.settle(host, d, vols, -1); err != nil {
			t.Fatalf("%v", err)
		}
		if again, err := k.settle(host, d, vols, -1); err != nil || len(again) > 0 {
			t.Fatalf("applied twice, the second time did %s (%v)", ops(again), err)
		}
		if h, ok := k.actual.Parent(img); h != d.Parent.Host || !ok {
			t.Fatalf("reads from %q (healthy %v), want %s", h, ok, d.Parent.Host)
		}
		for _, v := range vols {
			stands := k.actual.live(driver.VolumeDevice(v.ID, driver.PartVolume))
			if stands != (v.State == model.Present) {
				t.Fatalf("volume %s is to be %s, stands: %v", v.ID, v.State, stands)
			}
			if _, exported := k.actual.Targets[driver.VolumeIQN("node1", v.ID)]; exported != (len(v.Hosts) > 0) {
				t.Fatalf("volume %s: exported %v, hosts %v", v.ID, exported, v.Hosts)
			}
		}
	})
}

func TestNoSecretInText(t *testing.T) {
	d := relay(model.Present, "origin")
	d.Children = []model.Child{{Initiator: "iqn.c", User: "c", Secret: "topsecrettopsecr"}}
	k := newKernel()
	for _, s := range mustSettle(t, k, d) {
		for _, text := range []string{s.String(), Fingerprint(s.Target)} {
			if strings.Contains(text, "topsecret") || strings.Contains(text, "0123456789abcdef") {
				t.Errorf("a secret shows in %q", text)
			}
		}
		if s.Op == OpExport && strings.Contains(fmt.Sprintf("%v %#v", s.Target, s.Target), "topsecret") {
			t.Error("a secret shows when a target is printed")
		}
	}
}
