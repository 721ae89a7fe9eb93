// Package keylock is a lock per key that gives up when a context ends.
package keylock

import (
	"context"
	"sync"
)

// Locks hands out one lock per key. The zero value is ready; keys that nobody
// holds or waits for take no memory.
type Locks struct {
	mu   sync.Mutex
	keys map[string]*entry
}

type entry struct {
	slot  chan struct{} // holds one element while locked
	users int           // holders and waiters
}

// Acquire locks key and returns the function that unlocks it, which must be
// called exactly once. It returns the context's error if ctx ends first.
func (l *Locks) Acquire(ctx context.Context, key string) (func(), error) {
	l.mu.Lock()
	if l.keys == nil {
		l.keys = make(map[string]*entry)
	}
	e := l.keys[key]
	if e == nil {
		e = &entry{slot: make(chan struct{}, 1)}
		l.keys[key] = e
	}
	e.users++
	l.mu.Unlock()

	select {
	case e.slot <- struct{}{}:
		return func() { <-e.slot; l.leave(key, e) }, nil
	case <-ctx.Done():
		l.leave(key, e)
		return nil, ctx.Err()
	}
}

func (l *Locks) leave(key string, e *entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.users--; e.users == 0 {
		delete(l.keys, key)
	}
}
