package image

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/vmthunder/vmthunder/driver"
)

var (
	errRemoved   = fmt.Errorf("removed while it was imported: %w", driver.ErrNotFound)
	errAbandoned = errors.New("nobody waits for it any more")
)

// flight is one import that all who want the image wait for.
type flight struct {
	done   chan struct{}
	cancel context.CancelCauseFunc
	file   driver.ImageFile // after done, as err
	err    error

	waiters int // under Store.mu; 0: it is being cancelled

	mu        sync.Mutex
	listeners map[int]func(driver.ImageProgress)
	next      int
	last      driver.ImageProgress
}

// listen adds a listener, which hears at once where things are.
func (f *flight) listen(l func(driver.ImageProgress)) (stop func()) {
	if l == nil {
		return func() {}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.next
	f.next++
	f.listeners[n] = l
	if f.last.Phase != "" {
		l(f.last)
	}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.listeners, n)
	}
}

func (f *flight) report(p driver.ImageProgress) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = p
	for _, l := range f.listeners {
		l(p)
	}
}

// Ensure implements [driver.ImageStore]. Calls for one image share one import, which
// goes on until it is done or all of them have given up; the first one's source
// counts. progress is called by the import and holds it up; it is not called any
// more after Ensure has returned.
func (s *Store) Ensure(ctx context.Context, src driver.ImageSource, progress func(driver.ImageProgress)) (driver.ImageFile, error) {
	if err := checkID(src.ImageID); err != nil {
		return driver.ImageFile{}, err
	}
	for {
		f, fresh := s.join(ctx, src)
		if !fresh {
			select { // until the one that was given up is over
			case <-f.done:
				continue
			case <-ctx.Done():
				return driver.ImageFile{}, fmt.Errorf("image %s: %w", src.ImageID, ctx.Err())
			}
		}
		stop := f.listen(progress)
		select {
		case <-f.done:
		case <-ctx.Done():
		}
		stop()
		s.leave(f)
		select {
		case <-f.done:
			if f.err != nil {
				return driver.ImageFile{}, fmt.Errorf("image %s: %w", src.ImageID, f.err)
			}
			return f.file, nil
		default:
			return driver.ImageFile{}, fmt.Errorf("image %s: %w", src.ImageID, ctx.Err())
		}
	}
}

// join gives the flight of an image, a new one if there is none. It is not ok if that
// one is being cancelled.
func (s *Store) join(ctx context.Context, src driver.ImageSource) (f *flight, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.flights[src.ImageID]; f != nil {
		if f.waiters == 0 {
			return f, false
		}
		f.waiters++
		return f, true
	}
	f = &flight{done: make(chan struct{}), waiters: 1, listeners: map[int]func(driver.ImageProgress){}}
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	f.cancel = cancel
	s.flights[src.ImageID] = f
	go func() {
		defer cancel(nil)
		f.file, f.err = s.ensure(work, src, f.report)
		if f.err != nil && work.Err() != nil {
			f.err = context.Cause(work)
		}
		s.mu.Lock()
		delete(s.flights, src.ImageID)
		s.mu.Unlock()
		close(f.done)
	}()
	return f, true
}

func (s *Store) leave(f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.waiters--; f.waiters == 0 {
		f.cancel(errAbandoned)
	}
}
