package keylock

import (
	"context"
	"errors"
	"sync"
	"testing"
)

func TestLocksExcludeByKey(t *testing.T) {
	var l Locks
	ctx := t.Context()
	n := map[string]*int{"a": new(int), "b": new(int)}
	var wg sync.WaitGroup
	for i := range 200 {
		key := []string{"a", "b"}[i%2]
		wg.Go(func() {
			unlock, err := l.Acquire(ctx, key)
			if err != nil {
				t.Error(err)
				return
			}
			defer unlock()
			*n[key]++ // the race detector and the sum below would tell
		})
	}
	wg.Wait()
	if *n["a"] != 100 || *n["b"] != 100 {
		t.Errorf("counted %d and %d, want 100 each", *n["a"], *n["b"])
	}
	if len(l.keys) != 0 {
		t.Errorf("%d keys kept", len(l.keys))
	}
}

func TestAcquireGivesUp(t *testing.T) {
	var l Locks
	unlock, err := l.Acquire(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Acquire(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	unlock()
	unlock, err = l.Acquire(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	if len(l.keys) != 0 {
		t.Errorf("%d keys kept", len(l.keys))
	}
}
