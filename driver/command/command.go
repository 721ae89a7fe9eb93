// Package command is the only place of the program that executes other programs.
//
// Programs are run without a shell, with a fixed search path and locale, in a
// process group of their own that is killed as a whole when the context ends or
// the time is up. Secrets must never be put into Args: everybody on the host can
// read them, and they are repeated in errors. Use Stdin.
package command

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// DefaultTimeout of a command that sets none.
const DefaultTimeout = 30 * time.Second

// MaxOutput is how many bytes of each output stream are kept.
const MaxOutput = 4 << 20

// Cmd is a program to be run.
type Cmd struct {
	Name  string   // looked up in the fixed path, or absolute
	Args  []string // without the program's name; no secrets
	Stdin []byte
	// Env is added to the minimal environment (PATH, LC_ALL=C, HOME, LANG).
	Env []string
	// Timeout is [DefaultTimeout] if 0.
	Timeout time.Duration
}

// String is the command line, for messages and for tests; it is not quoted for a shell.
func (c Cmd) String() string {
	return strings.Join(append([]string{c.Name}, c.Args...), " ")
}

// Result is what a program wrote, each stream cut at [MaxOutput].
type Result struct {
	Stdout, Stderr []byte
}

// Runner runs programs.
type Runner interface {
	// Run returns when the program has ended. The Result holds what was written
	// also when there is an error: an [*ExitError] if the program ran and failed,
	// one that wraps driver.ErrUnavailable if it isn't installed, one that wraps the
	// context's error if it was killed because of it.
	Run(ctx context.Context, c Cmd) (Result, error)
}

// ExitError tells that a program ran and did not succeed.
type ExitError struct {
	Name   string
	Args   []string
	Code   int    // exit code, 128+signal if it was killed by one
	Stderr string // trimmed, at most a few lines
}

// Error is one line.
func (e *ExitError) Error() string {
	s := fmt.Sprintf("%s: exit code %d", Cmd{Name: e.Name, Args: e.Args}, e.Code)
	if e.Stderr != "" {
		s += ": " + e.Stderr
	}
	return strings.Join(strings.Fields(s), " ")
}

// stderrKept bounds what an ExitError repeats.
const stderrKept = 400

func newExitError(c Cmd, code int, stderr []byte) *ExitError {
	s := strings.TrimSpace(string(stderr))
	if len(s) > stderrKept {
		s = s[:stderrKept] + "..."
	}
	return &ExitError{Name: c.Name, Args: c.Args, Code: code, Stderr: s}
}
