package agent

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"syscall"
)

// ErrRemote wraps a refusal that came from the agent itself: a program not found, a
// file that is not there.
var ErrRemote = errors.New("node agent")

// Client talks to one node's agent.
type Client struct {
	// Address is HOST:PORT of the agent.
	Address string
	// Dial opens a connection; the laboratory's dialer enters its network namespace.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Streams are the standard streams of Stream; nil means none.
type Streams struct {
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
}

// Result is what a command left behind.
type Result struct {
	// Code is the exit status; 128 + signal when a signal ended the command.
	Code   int    `json:"code"`
	Stdout string `json:"stdout"`
	Stderr string `json:"stderr"`
}

// ExitError is a command that ended with a status other than 0.
type ExitError struct {
	Argv   []string
	Result Result
}

func (e *ExitError) Error() string {
	tail := strings.TrimSpace(e.Result.Stderr)
	if tail == "" {
		tail = strings.TrimSpace(e.Result.Stdout)
	}
	return fmt.Sprintf("%s: exit status %d: %s", strings.Join(e.Argv, " "), e.Result.Code, tail)
}

// Ping returns nil when the agent answers.
func (c *Client) Ping(ctx context.Context) error {
	_, err := c.call(ctx, request{Op: opPing}, Streams{})
	return err
}

// Stream runs a command with the given streams and returns its exit status. Ending ctx
// kills the command and all of its process group.
func (c *Client) Stream(ctx context.Context, cmd Command, s Streams) (int, error) {
	res, err := c.call(ctx, request{Op: opExec, Command: cmd}, s)
	return res.Code, err
}

// Exec runs a command to its end. A status other than 0 is no error here.
func (c *Client) Exec(ctx context.Context, cmd Command, stdin io.Reader) (Result, error) {
	var out, errb bytes.Buffer
	code, err := c.Stream(ctx, cmd, Streams{Stdin: stdin, Stdout: &out, Stderr: &errb})
	return Result{Code: code, Stdout: out.String(), Stderr: errb.String()}, err
}

// Run runs a command and returns its stdout; a status other than 0 is an *ExitError.
func (c *Client) Run(ctx context.Context, argv ...string) (string, error) {
	r, err := c.Exec(ctx, Command{Argv: argv}, nil)
	if err != nil {
		return r.Stdout, err
	}
	if r.Code != 0 {
		return r.Stdout, &ExitError{Argv: argv, Result: r}
	}
	return r.Stdout, nil
}

// Start starts a background program under a name that no running one has; log is the
// path, in the node, of the file its output is appended to. Returns its pid in the node.
func (c *Client) Start(ctx context.Context, name string, cmd Command, log string) (int, error) {
	res, err := c.call(ctx, request{Op: opStart, Name: name, Command: cmd, Log: log}, Streams{})
	return res.Pid, err
}

// Signal sends a signal to the process group of a background program.
func (c *Client) Signal(ctx context.Context, name string, sig syscall.Signal) error {
	_, err := c.call(ctx, request{Op: opSignal, Name: name, Signal: int(sig)}, Streams{})
	return err
}

// Wait waits for a background program's end and returns its exit status.
func (c *Client) Wait(ctx context.Context, name string) (int, error) {
	res, err := c.call(ctx, request{Op: opWait, Name: name}, Streams{})
	return res.Code, err
}

// Processes lists the background programs started since the node's boot.
func (c *Client) Processes(ctx context.Context) ([]Process, error) {
	res, err := c.call(ctx, request{Op: opList}, Streams{})
	return res.Procs, err
}

// Put writes a file in the node, replacing it whole.
func (c *Client) Put(ctx context.Context, path string, mode fs.FileMode, r io.Reader) error {
	_, err := c.call(ctx, request{Op: opPut, Path: path, Mode: uint32(mode.Perm())}, Streams{Stdin: r})
	return err
}

// Get reads a file of the node; sysfs and configfs files too.
func (c *Client) Get(ctx context.Context, path string, w io.Writer) error {
	_, err := c.call(ctx, request{Op: opGet, Path: path}, Streams{Stdout: w})
	return err
}

func (c *Client) call(ctx context.Context, req request, s Streams) (result, error) {
	conn, err := c.Dial(ctx, "tcp", c.Address)
	if err != nil {
		return result{Code: -1}, fmt.Errorf("reach agent: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	res, err := exchange(conn, req, s)
	if err != nil {
		res.Code = -1
		if ctx.Err() != nil {
			return res, fmt.Errorf("%s: %w", req.Op, ctx.Err())
		}
		return res, fmt.Errorf("%s: %w", req.Op, err)
	}
	if res.Error != "" {
		return res, fmt.Errorf("%w: %s: %s", ErrRemote, req.Op, res.Error)
	}
	return res, nil
}

func exchange(conn net.Conn, req request, s Streams) (result, error) {
	w := &frameWriter{w: conn}
	if err := w.json(kindRequest, req); err != nil {
		return result{}, err
	}
	if s.Stdin == nil {
		if err := w.write(kindStdinEOF, nil); err != nil {
			return result{}, err
		}
	} else {
		go func() {
			_, err := io.CopyBuffer(stream{w, kindStdin}, onlyReader{s.Stdin}, make([]byte, 64<<10))
			if err == nil {
				err = w.write(kindStdinEOF, nil)
			}
			if err != nil {
				_ = conn.Close() // shows as a failed read below
			}
		}()
	}
	r := bufio.NewReaderSize(conn, 64<<10)
	for {
		k, p, err := readFrame(r)
		if err != nil {
			return result{}, err
		}
		var to io.Writer
		switch k {
		case kindStdout:
			to = s.Stdout
		case kindStderr:
			to = s.Stderr
		case kindResult:
			var res result
			err := json.Unmarshal(p, &res)
			return res, err
		}
		if to != nil {
			if _, err := to.Write(p); err != nil {
				return result{}, fmt.Errorf("write output: %w", err)
			}
		}
	}
}

// onlyReader hides WriteTo, so that copies go out in pieces of the buffer.
type onlyReader struct{ io.Reader }
