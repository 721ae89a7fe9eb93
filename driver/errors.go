package driver

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Sentinel errors that implementations wrap, to be tested with [errors.Is].
var (
	// ErrNotFound: the named device, target, session or image does not stand.
	ErrNotFound = errors.New("not found")
	// ErrExists: something else stands under the name that was asked for.
	ErrExists = errors.New("exists already")
	// ErrBusy: the thing is open or in use and can't be removed or changed now.
	ErrBusy = errors.New("in use")
	// ErrUnavailable: the kernel module, daemon or tool is not there.
	ErrUnavailable = errors.New("unavailable on this node")
	// ErrNoSpace: the pool, cache or file system is full.
	ErrNoSpace = errors.New("no space left")
	// ErrForeign: the device holds data that is not ours, and is left alone.
	ErrForeign = errors.New("holds foreign data")
	// ErrAuth: the other side refused our name or secret.
	ErrAuth = errors.New("authentication refused")
	// ErrUnreachable: the other side did not answer.
	ErrUnreachable = errors.New("unreachable")
	// ErrUnusable: the image can't be served (format, backing file, size, checksum).
	// Trying again does not help.
	ErrUnusable = errors.New("unusable image")
)

// teardownTime bounds one undoing.
const teardownTime = 30 * time.Second

// Teardown returns a context for undoing work: it keeps the values of ctx but
// not its cancellation, since a creation that was cancelled must still be undone.
func Teardown(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), teardownTime)
}

// Undo is a stack of steps that take back what a creation has made so far.
//
//	var undo driver.Undo
//	defer func() { err = undo.OnError(ctx, err) }()
//	... make a; undo.Add(func(ctx context.Context) error { return remove(ctx, a) })
type Undo struct{ steps []func(context.Context) error }

// Add puts one step on the stack.
func (u *Undo) Add(step func(context.Context) error) { u.steps = append(u.steps, step) }

// OnError runs the steps, last first, when err is not nil, and returns err
// joined with what failed in undoing. With a nil err it does nothing.
func (u *Undo) OnError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	ctx, cancel := Teardown(ctx)
	defer cancel()
	errs := []error{err}
	for _, v := range slices.Backward(u.steps) {
		if e := v(ctx); e != nil {
			errs = append(errs, e)
		}
	}
	return errors.Join(errs...)
}
