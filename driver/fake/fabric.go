package fake

import (
	"fmt"
	"sync"

	"github.com/vmthunder/vmthunder/driver"
)

// Fabric joins fake targets with fake initiators: the network between nodes, and
// what each node's kernel keeps of it. It can be cut at an address.
type Fabric struct {
	mu       sync.Mutex
	targets  map[string]*fabricTarget // by IQN
	sessions []*fabricSession
	cut      map[string]bool // by address
	nextID   int
}

type fabricTarget struct {
	driver.Target
	helper *Target
}

// fabricSession is one of an initiator's sessions.
type fabricSession struct {
	driver.Session
	initiator string // IQN
	source    string // device behind the disk
	readOnly  bool
}

// NewFabric returns a network without anything on it.
func NewFabric() *Fabric {
	return &Fabric{targets: make(map[string]*fabricTarget), cut: make(map[string]bool)}
}

// Cut makes an address (IP:PORT) unreachable: its sessions fail and nobody can log in.
func (f *Fabric) Cut(address string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cut[address] = true
	f.settle()
}

// Heal makes an address reachable again. Sessions whose target still lets them in recover.
func (f *Fabric) Heal(address string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.cut, address)
	f.settle()
}

// Source returns the device behind a session's disk, as initiator has it.
func (f *Fabric) Source(initiator, disk string) (device string, readOnly, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.sessions {
		if s.initiator == initiator && s.Device == disk {
			return s.source, s.readOnly, s.State == driver.SessionLoggedIn
		}
	}
	return "", false, false
}

// settle makes the sessions' states follow the targets and the cuts.
func (f *Fabric) settle() {
	for _, s := range f.sessions {
		t := f.targets[s.IQN]
		s.State = driver.SessionFailed
		if t == nil || f.cut[s.Address] || t.Portal != s.Address {
			continue
		}
		for _, a := range t.ACLs {
			if a.Initiator == s.initiator && t.Device == s.source && t.ReadOnly == s.readOnly {
				s.State = driver.SessionLoggedIn
			}
		}
	}
}

// login makes a session, or returns the one that stands.
func (f *Fabric) login(initiator string, p driver.Portal) (driver.Session, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.sessions {
		if s.initiator == initiator && s.IQN == p.IQN && s.Address == p.Address && s.State == driver.SessionLoggedIn {
			return s.Session, nil
		}
	}
	if f.cut[p.Address] || !f.listens(p.Address) {
		return driver.Session{}, driver.ErrUnreachable
	}
	t := f.targets[p.IQN]
	if t == nil || t.Portal != p.Address {
		return driver.Session{}, driver.ErrNotFound
	}
	for _, a := range t.ACLs {
		if a.Initiator != initiator || a.Credential != p.Credential {
			continue
		}
		f.drop(initiator, p.IQN, p.Address)
		f.nextID++
		s := &fabricSession{initiator: initiator, source: t.Device, readOnly: t.ReadOnly}
		s.Session = driver.Session{ID: f.nextID, IQN: p.IQN, Address: p.Address, State: driver.SessionLoggedIn, Device: fmt.Sprintf("/dev/sd%s", letters(f.nextID))}
		f.sessions = append(f.sessions, s)
		return s.Session, nil
	}
	return driver.Session{}, driver.ErrAuth
}

// listens says whether any target stands at an address.
func (f *Fabric) listens(address string) bool {
	for _, t := range f.targets {
		if t.Portal == address {
			return true
		}
	}
	return false
}

func (f *Fabric) drop(initiator, iqn, address string) {
	kept := f.sessions[:0]
	for _, s := range f.sessions {
		if s.initiator != initiator || s.IQN != iqn || s.Address != address {
			kept = append(kept, s)
		}
	}
	f.sessions = kept
}

// letters counts a, b, ... z, aa, ab, ...
func letters(n int) string {
	s := ""
	for ; n > 0; n = (n - 1) / 26 {
		s = string(rune('a'+(n-1)%26)) + s
	}
	return s
}
