package rpc

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"
)

// Method serves one name. args is a JSON object. Its result is encoded as JSON.
// It must be idempotent: a request may come again after the server restarted.
type Method func(ctx context.Context, c Context, args json.RawMessage) (any, error)

// Handle makes a Method of a function with typed arguments and result. Arguments A
// doesn't know are ignored; ones of another type give [ErrInvalidArguments].
func Handle[A, R any](f func(ctx context.Context, c Context, args A) (R, error)) Method {
	return func(ctx context.Context, c Context, raw json.RawMessage) (any, error) {
		var args A
		if err := json.Unmarshal(raw, &args); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInvalidArguments, err)
		}
		return f(ctx, c, args)
	}
}

// Endpoint is a set of methods of one namespace and version.
type Endpoint struct {
	Namespace string // mostly empty
	// Version served, "1.3": requests for 1.0 to 1.3 are accepted. Empty: "1.0".
	Version string
	Methods map[string]Method
}

// find looks for the method a request wants; [ErrNoSuchMethod] or [ErrUnsupportedVersion].
func find(endpoints []Endpoint, r Request) (Method, error) {
	known := false
	for _, e := range endpoints {
		if e.Namespace != r.Namespace {
			continue
		}
		m, ok := e.Methods[r.Method]
		if ok && compatible(e.Version, r.Version) {
			return m, nil
		}
		known = known || ok
	}
	if known {
		return nil, fmt.Errorf("method %s, version %s: %w", r.Method, r.Version, ErrUnsupportedVersion)
	}
	return nil, fmt.Errorf("method %s: %w", r.Method, ErrNoSuchMethod)
}

// compatible is oslo's rule: same major, minor not above ours. A missing
// version is "1.0", as in oslo_messaging/rpc/dispatcher.py.
func compatible(have, want string) bool {
	haveMajor, haveMinor, ok1 := version(have)
	wantMajor, wantMinor, ok2 := version(want)
	return ok1 && ok2 && haveMajor == wantMajor && wantMinor <= haveMinor
}

func version(s string) (major, minor int, ok bool) {
	if s == "" {
		return 1, 0, true
	}
	a, b, _ := strings.Cut(s, ".")
	if b == "" {
		b = "0"
	}
	major, err1 := strconv.Atoi(a)
	minor, err2 := strconv.Atoi(b)
	return major, minor, err1 == nil && err2 == nil
}

// panicError keeps the stack for the log; it does not travel.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("%v: %v", ErrPanic, e.value) }
func (e *panicError) Unwrap() error { return ErrPanic }

// invoke runs m and turns a panic into an error.
func invoke(ctx context.Context, m Method, r Request) (result any, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{v, debug.Stack()}
		}
	}()
	return m(ctx, r.Context, r.Args)
}
