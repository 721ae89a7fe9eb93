package rpc

import (
	"container/list"
	"sync"
)

// memory knows the last requests by their _unique_id, so that one delivered
// again is not executed again, and gets the reply it got before.
type memory struct {
	mu       sync.Mutex
	max      int // finished requests kept
	maxBytes int // of their replies
	bytes    int
	seen     map[string]*seen
	finished list.List // of *seen, oldest first
}

// seen is one request: in flight until done.
type seen struct {
	id         string
	done       bool
	reply      []byte // nil for a cast
	replyQ     string
	deliveries []Delivery // to acknowledge when it is done and answered
}

type verdict int

const (
	fresh    verdict = iota // execute it
	joined                  // in flight; this delivery is acknowledged along with the first
	answered                // executed before
)

func newMemory(maximum, maxBytes int) *memory {
	return &memory{max: maximum, maxBytes: maxBytes, seen: map[string]*seen{}}
}

// begin tells what to do with a delivery. Requests without an id are all fresh.
func (m *memory) begin(id string, d Delivery) (*seen, verdict) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.seen[id]; s != nil && id != "" {
		if s.done {
			return s, answered
		}
		s.deliveries = append(s.deliveries, d)
		return s, joined
	}
	s := &seen{id: id, deliveries: []Delivery{d}}
	if id != "" {
		m.seen[id] = s
	}
	return s, fresh
}

// finish records the reply of a request that was executed.
func (m *memory) finish(s *seen, reply []byte, replyQ string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s.done, s.reply, s.replyQ = true, reply, replyQ
	if s.id == "" {
		return
	}
	m.finished.PushBack(s)
	m.bytes += len(reply)
	for m.finished.Len() > m.max || m.bytes > m.maxBytes && m.finished.Len() > 1 {
		old, _ := m.finished.Remove(m.finished.Front()).(*seen)
		m.bytes -= len(old.reply)
		delete(m.seen, old.id)
	}
}

// forget drops a request that was not executed, to be delivered again.
func (m *memory) forget(s *seen) []Delivery {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.seen, s.id)
	return s.deliveries
}

// take gives the deliveries of a finished request, once.
func (m *memory) take(s *seen) []Delivery {
	m.mu.Lock()
	defer m.mu.Unlock()
	ds := s.deliveries
	s.deliveries = nil
	return ds
}
