package fake_test

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/drivertest"
	"github.com/vmthunder/vmthunder/driver/fake"
)

// iscsiBed is a node on a fabric of its own.
type iscsiBed struct {
	fabric *fake.Fabric
	mu     sync.Mutex
	disks  map[string][]byte
}

const iscsiBedName = "iqn.2026-11.org.test:node1"

func newISCSIBed() *iscsiBed {
	return &iscsiBed{fabric: fake.NewFabric(), disks: map[string][]byte{}}
}

func (b *iscsiBed) target() *fake.Target {
	t := fake.NewTarget(b.fabric, "node1", "lioadm")
	t.Exists = func(device string) bool { b.mu.Lock(); defer b.mu.Unlock(); return b.disks[device] != nil }
	return t
}

func (b *iscsiBed) Target() driver.TargetHelper { return b.target() }
func (b *iscsiBed) Initiator() driver.Initiator { return fake.NewInitiator(b.fabric, iscsiBedName) }
func (b *iscsiBed) Portal() string              { return "10.0.0.1:3260" }
func (b *iscsiBed) Cut(*testing.T)              { b.fabric.Cut(b.Portal()) }
func (b *iscsiBed) Heal(*testing.T)             { b.fabric.Heal(b.Portal()) }

func (b *iscsiBed) Device(*testing.T) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	path := fmt.Sprintf("/dev/mapper/d%d", len(b.disks))
	b.disks[path] = []byte("content of " + path)
	return path
}

func (b *iscsiBed) RemoveDevice(t *testing.T, path string) {
	if b.target().Exports(path) {
		t.Fatalf("%s is still exported", path)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.disks, path)
}

func (b *iscsiBed) Content(t *testing.T, path string) []byte {
	if source, _, ok := b.fabric.Source(iscsiBedName, path); ok {
		path = source
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.disks[path] == nil {
		t.Fatalf("no device %s", path)
	}
	return bytes.Clone(b.disks[path])
}

func (b *iscsiBed) Write(_ *testing.T, path string) error {
	source, readOnly, ok := b.fabric.Source(iscsiBedName, path)
	if readOnly || !ok {
		return errors.New("refused")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.disks[source] = append(b.disks[source], '!')
	return nil
}

func TestTarget(t *testing.T)    { drivertest.Target(t, newISCSIBed()) }
func TestInitiator(t *testing.T) { drivertest.Initiator(t, newISCSIBed()) }

func TestFabricFaults(t *testing.T) {
	b := newISCSIBed()
	h := b.target()
	bad := errors.New("injected")
	h.Fail = func(op, _ string) error {
		if op == "ensure" {
			return bad
		}
		return nil
	}
	if _, err := h.Ensure(t.Context(), driver.Target{IQN: "iqn.2014-05.org:x"}); !errors.Is(err, bad) {
		t.Errorf("got %v", err)
	}
	h.Fail = nil
	tt := driver.Target{IQN: "iqn.2014-05.org:x", Device: b.Device(t), Portal: b.Portal(), ACLs: []driver.ACL{{Initiator: iscsiBedName}}}
	if _, err := h.Ensure(t.Context(), tt); err != nil {
		t.Fatal(err)
	}
	i := fake.NewInitiator(b.fabric, iscsiBedName)
	i.Held = func(string) bool { return true }
	if _, err := i.Login(t.Context(), driver.Portal{Address: b.Portal(), IQN: tt.IQN}); err != nil {
		t.Fatal(err)
	}
	if err := i.Logout(t.Context(), tt.IQN, b.Portal()); !errors.Is(err, driver.ErrBusy) {
		t.Errorf("got %v, want ErrBusy", err)
	}
}
