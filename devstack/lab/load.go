package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/vmthunder/vmthunder/devstack/lab/load"
)

// LoadArg is the argument by which vmthunder-lab runs a load in a node; the next one is its
// [load.Options] as JSON. The load ends when its standard input does.
const LoadArg = "load"

// Load runs a load in the node, and records what it says, until stop is closed, ctx ends, or the load is
// over. ended is false if it was cut short, as by the death of the node.
func (n *Node) Load(ctx context.Context, o load.Options, r *load.Record, stop <-chan struct{}) (ended bool, err error) {
	arg, err := json.Marshal(o)
	if err != nil {
		return false, err
	}
	in, hold := io.Pipe()
	lines, say := io.Pipe()
	followed := make(chan error, 1)
	go func() {
		var err error
		ended, err = r.Follow(lines)
		_ = lines.CloseWithError(err) // nil is the end
		followed <- err
	}()
	over := make(chan struct{})
	go func() {
		select {
		case <-stop:
		case <-over:
		}
		_ = hold.Close()
	}()
	var said bytes.Buffer
	code, err := n.Stream(ctx, Command{Argv: []string{n.lab.st.Binary, LoadArg, string(arg)}}, Streams{Stdin: in, Stdout: say, Stderr: &said})
	close(over)
	_ = say.Close()
	if ferr := <-followed; err == nil {
		err = ferr
	}
	if err == nil && code != 0 {
		err = fmt.Errorf("exit status %d: %s", code, strings.TrimSpace(said.String()))
	}
	if err != nil {
		return false, fmt.Errorf("load at %s: %w", n.st.Name, err)
	}
	return ended, nil
}

// RunLoad is what vmthunder-lab does in a node for Load.
func RunLoad(ctx context.Context, arg string, stdin io.Reader, stdout io.Writer) error {
	var o load.Options
	if err := json.Unmarshal([]byte(arg), &o); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, stdin)
		cancel()
	}()
	return load.Run(ctx, o, stdout)
}
