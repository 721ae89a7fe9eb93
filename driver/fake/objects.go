package fake

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/vmthunder/vmthunder/driver"
)

// Objects is a [driver.ObjectStore] in memory.
type Objects struct {
	mu      sync.Mutex
	objects map[string][]byte
	// Fail, if set, is asked before every call ("put NAME", …); its error is the call's.
	Fail func(call string) error
}

var _ driver.ObjectStore = (*Objects)(nil)

// NewObjects returns an empty store.
func NewObjects() *Objects { return &Objects{objects: map[string][]byte{}} }

func (o *Objects) begin(ctx context.Context, call, name string) (func(), error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := driver.CheckObjectName(name); err != nil {
		return nil, err
	}
	o.mu.Lock()
	if o.Fail != nil {
		if err := o.Fail(call + " " + name); err != nil {
			o.mu.Unlock()
			return nil, err
		}
	}
	return o.mu.Unlock, nil
}

// Put implements [driver.ObjectStore].
func (o *Objects) Put(ctx context.Context, name string, data []byte) error {
	end, err := o.begin(ctx, "put", name)
	if err != nil {
		return err
	}
	defer end()
	o.objects[name] = bytes.Clone(data)
	return nil
}

// Get implements [driver.ObjectStore].
func (o *Objects) Get(ctx context.Context, name string, limit int64) ([]byte, error) {
	end, err := o.begin(ctx, "get", name)
	if err != nil {
		return nil, err
	}
	defer end()
	data, ok := o.objects[name]
	switch {
	case !ok:
		return nil, fmt.Errorf("object %s: %w", name, driver.ErrNotFound)
	case int64(len(data)) > limit:
		return nil, fmt.Errorf("object %s is larger than %d bytes", name, limit)
	}
	return bytes.Clone(data), nil
}

// List implements [driver.ObjectStore].
func (o *Objects) List(ctx context.Context, prefix string) ([]string, error) {
	end, err := o.begin(ctx, "list", prefix)
	if err != nil {
		return nil, err
	}
	defer end()
	var names []string
	for _, n := range slices.Sorted(maps.Keys(o.objects)) {
		if strings.HasPrefix(n, prefix+"/") {
			names = append(names, n)
		}
	}
	return names, nil
}

// Delete implements [driver.ObjectStore].
func (o *Objects) Delete(ctx context.Context, name string) error {
	end, err := o.begin(ctx, "delete", name)
	if err != nil {
		return err
	}
	defer end()
	delete(o.objects, name)
	return nil
}

// Check implements [driver.ObjectStore].
func (o *Objects) Check(ctx context.Context) error { return ctx.Err() }
