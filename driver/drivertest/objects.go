package drivertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/vmthunder/vmthunder/driver"
)

// Objects tests an empty object store.
func Objects(t *testing.T, fresh func(t *testing.T) driver.ObjectStore) {
	t.Helper()
	run := func(name string, f func(t *testing.T, s driver.ObjectStore)) {
		t.Run(name, func(t *testing.T) { f(t, fresh(t)) })
	}
	run("objects are what was put last", func(t *testing.T, s driver.ObjectStore) {
		ctx := t.Context()
		for _, data := range [][]byte{[]byte("one"), {}, bytes.Repeat([]byte("x"), 1<<20)} {
			if err := s.Put(ctx, "a/b", data); err != nil {
				t.Fatalf("%v", err)
			}
			got, err := s.Get(ctx, "a/b", 1<<20)
			if err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		}
		if _, err := s.Get(ctx, "a/b", 1<<20-1); err == nil || errors.Is(err, driver.ErrNotFound) {
			t.Errorf("larger than allowed: %v", err)
		}
		if _, err := s.Get(ctx, "a/c", 10); !errors.Is(err, driver.ErrNotFound) {
			t.Errorf("missing: %v", err)
		}
	})
	run("lists are of whole parts, in order", func(t *testing.T, s driver.ObjectStore) {
		ctx := t.Context()
		for _, n := range []string{"p/2", "p/1/z", "pp/3", "p/1/a"} {
			if err := s.Put(ctx, n, []byte(n)); err != nil {
				t.Fatalf("%v", err)
			}
		}
		for prefix, want := range map[string][]string{"p": {"p/1/a", "p/1/z", "p/2"}, "p/1": {"p/1/a", "p/1/z"}, "p/2": nil, "q": nil, "pp": {"pp/3"}} {
			if got, err := s.List(ctx, prefix); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s: %v, %v", prefix, got, err)
			}
		}
		for _, n := range []string{"p/1/a", "p/1/a", "p/1/z", "q/none"} {
			if err := s.Delete(ctx, n); err != nil {
				t.Errorf("delete %s: %v", n, err)
			}
		}
		if got, err := s.List(ctx, "p"); err != nil || !slices.Equal(got, []string{"p/2"}) {
			t.Errorf("%v, %v", got, err)
		}
	})
	run("names lead nowhere else", func(t *testing.T, s driver.ObjectStore) {
		ctx := t.Context()
		for _, n := range []string{"", "/a", "a/", "a//b", "../a", "a/../b", ".a", "a/.b", "a b", "ä", "a\x00b", strings.Repeat("a", 256), strings.Repeat("a/", 600) + "a"} {
			_, get := s.Get(ctx, n, 10)
			_, list := s.List(ctx, n)
			for what, err := range map[string]error{"put": s.Put(ctx, n, nil), "get": get, "list": list, "delete": s.Delete(ctx, n)} {
				if err == nil || errors.Is(err, driver.ErrNotFound) {
					t.Errorf("%s %q: %v", what, n, err)
				}
			}
		}
	})
	run("many at once", func(t *testing.T, s driver.ObjectStore) {
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for i := range 20 {
					name := fmt.Sprintf("d%d/x/%d", i%3, w) // directories come and go under each other
					if err := s.Put(t.Context(), name, []byte(name)); err != nil {
						t.Errorf("%v", err)
					}
					if got, err := s.Get(t.Context(), name, 100); err != nil || string(got) != name {
						t.Errorf("%q, %v", got, err)
					}
					if err := s.Delete(t.Context(), name); err != nil {
						t.Errorf("%v", err)
					}
				}
			})
		}
		wg.Wait()
		for i := range 3 {
			if got, err := s.List(t.Context(), fmt.Sprintf("d%d", i)); err != nil || len(got) != 0 {
				t.Errorf("%v, %v", got, err)
			}
		}
	})
	run("cancelled", func(t *testing.T, s driver.ObjectStore) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Put(ctx, "a", nil); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		if got, err := s.List(t.Context(), "a"); err != nil || len(got) != 0 {
			t.Errorf("%v, %v", got, err)
		}
	})
}
