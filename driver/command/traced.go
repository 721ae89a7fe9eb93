package command

import (
	"context"
	"time"
)

// Traced passes commands on and tells of each one when it has ended, so that a log can
// say what was executed and how long it took.
type Traced struct {
	Runner
	// Ended is called once for each command, from the goroutine that ran it.
	Ended func(c Cmd, took time.Duration, err error)
}

// Run implements [Runner].
func (t Traced) Run(ctx context.Context, c Cmd) (Result, error) {
	began := time.Now()
	res, err := t.Runner.Run(ctx, c)
	t.Ended(c, time.Since(began), err)
	return res, err
}
