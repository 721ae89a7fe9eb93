// Package agent is the laboratory's hand inside a node: a small TCP server that runs
// commands and moves files, and the client for it.
//
// One connection carries one request. A message is a frame: one byte of kind, four
// bytes of big-endian length, and the payload. The first frame of a connection is the
// request as JSON; what follows depends on the operation. Closing the connection of a
// running command kills the command's process group, so a cancelled test leaves
// nothing behind in its node.
//
// There is no authentication: the address exists only in the laboratory's own network
// namespace.
package agent

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Port is the TCP port the agent listens on in every node.
const Port = 7070

// maxFrame bounds one frame, in bytes; a longer length means the peer is not an agent.
const maxFrame = 1 << 20

type kind byte

const (
	kindRequest  kind = 'r'
	kindStdin    kind = 'i'
	kindStdinEOF kind = 'e'
	kindStdout   kind = '1'
	kindStderr   kind = '2'
	kindResult   kind = 'x'
)

// op names a request.
type op string

const (
	opPing   op = "ping"
	opExec   op = "exec"
	opStart  op = "start"
	opSignal op = "signal"
	opWait   op = "wait"
	opList   op = "list"
	opPut    op = "put"
	opGet    op = "get"
)

// Command describes a program to run in a node.
type Command struct {
	// Argv is the program, found in the node's PATH unless it is a path, and its arguments.
	Argv []string `json:"argv"`
	// Env is added to the agent's environment, as KEY=VALUE.
	Env []string `json:"env,omitempty"`
	// Dir is the working directory; empty is /.
	Dir string `json:"dir,omitempty"`
}

type request struct {
	Op      op      `json:"op"`
	Command Command `json:"command,omitzero"`
	Name    string  `json:"name,omitempty"`   // start, signal, wait
	Log     string  `json:"log,omitempty"`    // start: file for stdout and stderr
	Signal  int     `json:"signal,omitempty"` // signal
	Path    string  `json:"path,omitempty"`   // put, get
	Mode    uint32  `json:"mode,omitempty"`   // put
}

type result struct {
	Error string    `json:"error,omitempty"`
	Code  int       `json:"code"`
	Pid   int       `json:"pid,omitempty"`
	Procs []Process `json:"procs,omitempty"`
	Mode  uint32    `json:"mode,omitempty"`
}

// Process is a background program that was started by name.
type Process struct {
	Name    string   `json:"name"`
	Argv    []string `json:"argv"`
	Pid     int      `json:"pid"`
	Running bool     `json:"running"`
	// Code is the exit status once it has ended; 128 + signal when a signal ended it.
	Code int `json:"code"`
}

var errFrame = errors.New("malformed frame")

// frameWriter writes whole frames; it may be shared by goroutines.
type frameWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (f *frameWriter) write(k kind, p []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for first := true; first || len(p) > 0; first = false {
		n := min(len(p), maxFrame)
		head := [5]byte{byte(k)}
		binary.BigEndian.PutUint32(head[1:], uint32(n))
		if _, err := f.w.Write(append(head[:], p[:n]...)); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

func (f *frameWriter) json(k kind, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return f.write(k, b)
}

// stream is an io.Writer of frames of one kind.
type stream struct {
	f *frameWriter
	k kind
}

func (s stream) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := s.f.write(s.k, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func readFrame(r io.Reader) (kind, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxFrame {
		return 0, nil, fmt.Errorf("%w: %d bytes", errFrame, n)
	}
	p := make([]byte, n)
	if _, err := io.ReadFull(r, p); err != nil {
		return 0, nil, fmt.Errorf("%w: %w", errFrame, err)
	}
	return kind(head[0]), p, nil
}
