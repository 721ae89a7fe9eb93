package scheduler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// maker is a store that makes volumes when it is let.
type maker struct {
	mu    sync.Mutex
	calls [][]string    // names of the volumes of each call
	let   chan struct{} // nil: at once
	fail  func(vols []model.Volume) error
}

func (m *maker) create(ctx context.Context, vols []model.Volume, _ *model.Image) ([]model.Volume, error) {
	m.mu.Lock()
	var names []string
	for _, v := range vols {
		names = append(names, *v.Name)
	}
	m.calls = append(m.calls, names)
	m.mu.Unlock()
	if m.let != nil {
		select {
		case <-m.let:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if m.fail != nil {
		if err := m.fail(vols); err != nil {
			return nil, err
		}
	}
	made := slices.Clone(vols)
	for i := range made {
		made[i].ID = uuid.New()
	}
	return made, nil
}

func named(project string, names ...string) []model.Volume {
	var vs []model.Volume
	for _, n := range names {
		vs = append(vs, model.Volume{ProjectID: project, Name: &n})
	}
	return vs
}

type outcome struct {
	names []string
	err   error
}

// ask creates volumes in the background.
func ask(ctx context.Context, tg *together, vols []model.Volume, image *model.Image) chan outcome {
	out := make(chan outcome, 1)
	go func() {
		made, err := tg.Create(ctx, vols, image)
		var names []string
		for _, v := range made {
			names = append(names, *v.Name)
		}
		out <- outcome{names, err}
	}()
	synctest.Wait()
	return out
}

func TestTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &maker{let: make(chan struct{})}
		tg := &together{create: m.create}
		ctx := t.Context()
		image := &model.Image{ID: uuid.New()}
		a := ask(ctx, tg, named("p", "a"), nil)
		b := ask(ctx, tg, named("p", "b1", "b2"), nil)
		c := ask(ctx, tg, named("p", "c"), nil)
		other := ask(ctx, tg, named("q", "other"), nil)
		ofImage := ask(ctx, tg, named("p", "of image"), image)
		if fmt.Sprint(m.calls) != "[[a] [other] [of image]]" {
			t.Errorf("while the first is being made: %v", m.calls)
		}
		close(m.let)
		for _, x := range []struct {
			got  chan outcome
			want []string
		}{{a, []string{"a"}}, {b, []string{"b1", "b2"}}, {c, []string{"c"}}, {other, []string{"other"}}, {ofImage, []string{"of image"}}} {
			if o := <-x.got; o.err != nil || !slices.Equal(o.names, x.want) {
				t.Errorf("%v, want %v", o, x.want)
			}
		}
		synctest.Wait()
		if len(m.calls) != 4 || !slices.Equal(m.calls[3], []string{"b1", "b2", "c"}) || len(tg.lines) != 0 {
			t.Errorf("calls %v, lines %v", m.calls, tg.lines)
		}
	})
}

// Who can't be made does not keep others from it, and hears why itself.
func TestTogetherFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &maker{let: make(chan struct{}), fail: func(vols []model.Volume) error {
			if i := slices.IndexFunc(vols, func(v model.Volume) bool { return *v.Name == "bad" }); i >= 0 {
				return &model.QuotaError{Resource: "volumes", Requested: int64(len(vols))}
			}
			return nil
		}}
		tg := &together{create: m.create}
		ctx := t.Context()
		first, good, bad := ask(ctx, tg, named("p", "first"), nil), ask(ctx, tg, named("p", "good"), nil), ask(ctx, tg, named("p", "bad"), nil)
		close(m.let)
		for _, o := range []outcome{<-first, <-good} {
			if o.err != nil || len(o.names) != 1 {
				t.Errorf("%v", o)
			}
		}
		var q *model.QuotaError
		if o := <-bad; !errors.As(o.err, &q) || q.Requested != 1 || o.names != nil {
			t.Errorf("%v", o)
		}

		// With the store out of reach nobody tries again by himself.
		m.let, m.calls = make(chan struct{}), nil
		m.fail = func([]model.Volume) error { return model.ErrUnavailable }
		x, y, z := ask(ctx, tg, named("p", "x"), nil), ask(ctx, tg, named("p", "y"), nil), ask(ctx, tg, named("p", "z"), nil)
		close(m.let)
		for _, o := range []outcome{<-x, <-y, <-z} {
			if !errors.Is(o.err, model.ErrUnavailable) {
				t.Errorf("%v", o)
			}
		}
		if len(m.calls) != 2 {
			t.Errorf("calls %v", m.calls)
		}
	})
}

// One who leaves takes nobody along, and what nobody waits for is not made.
func TestTogetherLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &maker{let: make(chan struct{})}
		tg := &together{create: m.create}
		leaving, leave := context.WithCancel(t.Context())
		first := ask(leaving, tg, named("p", "first"), nil)
		second := ask(leaving, tg, named("p", "second"), nil)
		third := ask(t.Context(), tg, named("p", "third"), nil)
		leave()
		for _, o := range []outcome{<-first, <-second} {
			if !errors.Is(o.err, context.Canceled) {
				t.Errorf("%v", o)
			}
		}
		close(m.let)
		if o := <-third; o.err != nil || len(o.names) != 1 {
			t.Errorf("%v", o)
		}
		if fmt.Sprint(m.calls) != "[[first] [third]]" {
			t.Errorf("calls %v", m.calls)
		}
	})
}

// A line that is longer than a transaction should be is made in parts, none cut.
func TestTogetherMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &maker{let: make(chan struct{})}
		tg := &together{create: m.create}
		many := func(n int) []model.Volume { return named("p", make([]string, n)...) }
		var all []chan outcome
		for _, n := range []int{1, 150, 50, 1, togetherMost, togetherMost + 1} {
			all = append(all, ask(t.Context(), tg, many(n), nil))
		}
		close(m.let)
		total := 0
		for _, o := range all {
			r := <-o
			if r.err != nil {
				t.Error(r.err)
			}
			total += len(r.names)
		}
		synctest.Wait()
		var sizes []int
		for _, c := range m.calls {
			sizes = append(sizes, len(c))
		}
		// The largest goes by itself, at once.
		if want := []int{1, togetherMost + 1, 200, 1, togetherMost}; !slices.Equal(sizes, want) || total != 603 {
			t.Errorf("calls of %v volumes, want %v; %d in all", sizes, want, total)
		}
	})
}
