package mover

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver"
)

// sessions is an initiator whose only disk is a file.
type sessions struct {
	disk     string
	refuse   error
	in       []driver.Session
	loggedIn int
}

func (s *sessions) Name(context.Context) (string, error) { return "iqn.test:n2", nil }

func (s *sessions) Login(_ context.Context, p driver.Portal) (driver.Session, error) {
	if s.refuse != nil {
		return driver.Session{}, s.refuse
	}
	s.loggedIn++
	session := driver.Session{IQN: p.IQN, Address: p.Address, Device: s.disk, State: driver.SessionLoggedIn}
	s.in = append(s.in, session)
	return session, nil
}

func (s *sessions) Logout(_ context.Context, iqn, address string) error {
	s.in = slices.DeleteFunc(s.in, func(x driver.Session) bool { return x.IQN == iqn && x.Address == address })
	return nil
}

func (s *sessions) Sessions(context.Context, string) ([]driver.Session, error) {
	return slices.Clone(s.in), nil
}

const size = 2*chunkBytes + chunkBytes/2

// pair is a source with data in several places, and a destination that has some of it, and things
// that the source has not.
func pair(t *testing.T) (src, dst string, want []byte) {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	fill := func(b []byte) {
		for i := range b {
			b[i] = byte(r.Uint32())
		}
	}
	base := make([]byte, size)
	fill(base[:chunkBytes]) // the image
	want = slices.Clone(base)
	fill(want[8192:20480])
	fill(want[chunkBytes-4096 : chunkBytes+4096]) // over the end of a chunk
	fill(want[size-4096:])
	copy(want[40960:45056], make([]byte, 4096)) // zeros over what the image has
	dir := t.TempDir()
	src, dst = filepath.Join(dir, "src"), filepath.Join(dir, "dst")
	if err := errors.Join(os.WriteFile(src, want, 0o600), os.WriteFile(dst, base, 0o600)); err != nil {
		t.Fatal(err)
	}
	return src, dst, want
}

func TestMove(t *testing.T) {
	src, dst, want := pair(t)
	s := &sessions{disk: src}
	task := driver.Task{ID: uuid.NewString(), Device: dst, Bytes: size, Source: &driver.Portal{Address: "a:1", IQN: "iqn"}}
	var last driver.TaskProgress
	do := func(ctx context.Context) error {
		_, err := New(s).Do(ctx, task, func(p driver.TaskProgress) { last = p })
		return err
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := do(ctx); !errors.Is(err, context.Canceled) || len(s.in) != 0 {
		t.Errorf("not wanted any more: %v, sessions %v", err, s.in)
	}
	s.refuse = driver.ErrNotFound
	if err := do(t.Context()); !errors.Is(err, driver.ErrUnreachable) {
		t.Errorf("not exported yet: %v", err)
	}
	s.refuse = nil
	s.disk = src + "x"
	if err := do(t.Context()); !errors.Is(err, driver.ErrUnreachable) || len(s.in) != 0 {
		t.Errorf("a disk that is gone: %v, sessions %v", err, s.in)
	}
	s.disk = src
	for range 2 { // twice is as well as once
		if err := do(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(dst); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("it does not hold what it should, %v", err)
		}
		if len(s.in) != 0 || last != (driver.TaskProgress{Phase: phaseFlush, Done: size, Total: size}) {
			t.Errorf("sessions %v, progress %+v", s.in, last)
		}
	}
	task.Bytes = size + chunkBytes
	if err := do(t.Context()); !errors.Is(err, driver.ErrUnusable) || errors.Is(err, driver.ErrUnreachable) {
		t.Errorf("a source that is too small: %v", err)
	}
}

// Only what differs is written, in runs.
func TestDiffering(t *testing.T) {
	a, b := make([]byte, 10*unitBytes), make([]byte, 10*unitBytes)
	for _, i := range []int{0, 3, 4, 9} {
		a[i*unitBytes+7] = 1
	}
	var got [][2]int
	if err := differing(a, b, func(off, end int) error {
		got = append(got, [2]int{off / unitBytes, end / unitBytes})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if want := [][2]int{{0, 1}, {3, 5}, {9, 10}}; !slices.Equal(got, want) {
		t.Errorf("runs %v, want %v", got, want)
	}
}

// Clean ends the task's own session and nobody else's.
func TestClean(t *testing.T) {
	task := uuid.New()
	own := model.VolumeIQN("n1", model.ServeID(task).String())
	other := model.VolumeIQN("n1", uuid.NewString())
	s := &sessions{in: []driver.Session{{IQN: own, Address: "a:1"}, {IQN: other, Address: "a:1"}}}
	for range 2 {
		if err := New(s).Clean(t.Context(), task.String()); err != nil || len(s.in) != 1 || s.in[0].IQN != other {
			t.Errorf("%v, sessions %v", err, s.in)
		}
	}
}
