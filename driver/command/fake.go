package command

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
)

// Counting passes commands on and counts them, so that a test or a metric can
// tell how many programs an operation started.
type Counting struct {
	Runner
	n atomic.Int64
}

// Run implements [Runner].
func (c *Counting) Run(ctx context.Context, cmd Cmd) (Result, error) {
	c.n.Add(1)
	return c.Runner.Run(ctx, cmd)
}

// Count returns how many commands were run so far.
func (c *Counting) Count() int64 { return c.n.Load() }

// Recorder runs nothing. It remembers the commands and answers with Reply; with
// a nil Reply every command succeeds and writes nothing.
type Recorder struct {
	Reply func(Cmd) (Result, error)

	mu    sync.Mutex
	calls []Cmd
}

// Run implements [Runner].
func (r *Recorder) Run(ctx context.Context, c Cmd) (Result, error) {
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	r.mu.Lock()
	r.calls = append(r.calls, c)
	r.mu.Unlock()
	if r.Reply == nil {
		return Result{}, nil
	}
	return r.Reply(c)
}

// Calls returns the commands seen so far.
func (r *Recorder) Calls() []Cmd {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

// Lines returns the command lines seen so far.
func (r *Recorder) Lines() []string {
	var lines []string
	for _, c := range r.Calls() {
		lines = append(lines, c.String())
	}
	return lines
}

// Failure makes the [*ExitError] that a program's failure would give, for scripted replies.
func Failure(c Cmd, code int, stderr string) error {
	return newExitError(c, code, []byte(stderr))
}

// Scripted returns a reply function for a [Recorder] that looks the command line
// up in out and writes what stands there; a command that isn't there exits with code 127.
func Scripted(out map[string]string) func(Cmd) (Result, error) {
	return func(c Cmd) (Result, error) {
		s, ok := out[c.String()]
		if !ok {
			return Result{}, Failure(c, 127, "not in the script")
		}
		return Result{Stdout: []byte(s)}, nil
	}
}
