package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Server runs commands for whoever connects. The zero value is ready.
type Server struct {
	mu    sync.Mutex
	procs map[string]*background
}

type background struct {
	Process
	done chan struct{}
}

// Serve answers connections until the listener fails or ctx ends.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("accept: %w", err)
		}
		go func() {
			defer c.Close()
			s.handle(ctx, c)
		}()
	}
}

func (s *Server) handle(ctx context.Context, c net.Conn) {
	r := bufio.NewReader(c)
	k, p, err := readFrame(r)
	var req request
	if err != nil || k != kindRequest || json.Unmarshal(p, &req) != nil {
		return
	}
	w := &frameWriter{w: c}
	var res result
	drained := make(chan struct{})
	if req.Op == opExec {
		res = execute(ctx, req.Command, r, w, drained)
	} else {
		res = s.do(req, r, w)
		close(drained)
	}
	_ = w.json(kindResult, res)
	// Closing with unread input would send a reset, which can overtake the result.
	if tcp, ok := c.(*net.TCPConn); ok && tcp.CloseWrite() == nil {
		<-drained
		_, _ = io.Copy(io.Discard, r)
	}
}

func (s *Server) do(req request, r io.Reader, w *frameWriter) result {
	switch req.Op {
	case opPing:
		return result{}
	case opStart:
		return s.start(req)
	case opSignal:
		return s.signal(req)
	case opWait:
		return s.wait(req.Name)
	case opList:
		return s.list()
	case opPut:
		return put(req, r)
	case opGet:
		return get(req, w)
	}
	return result{Error: "unknown operation " + string(req.Op)}
}

func command(c Command) (*exec.Cmd, error) {
	if len(c.Argv) == 0 {
		return nil, errors.New("no command given")
	}
	cmd := exec.Command(c.Argv[0], c.Argv[1:]...) //nolint:noctx,gosec // ended by its group; running what it is told is its purpose
	cmd.Env = append(os.Environ(), c.Env...)
	cmd.Dir = c.Dir
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd, nil
}

// execute runs a command to its end, or until the client goes away. It closes drained
// when nobody reads r any more.
func execute(ctx context.Context, c Command, r io.Reader, w *frameWriter, drained chan<- struct{}) result {
	reading := false
	defer func() {
		if !reading {
			close(drained)
		}
	}()
	cmd, err := command(c)
	if err != nil {
		return result{Error: err.Error()}
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return result{Error: err.Error()}
	}
	var outs []*output
	var ends []*os.File
	for _, x := range []struct {
		to *io.Writer
		k  kind
	}{{&cmd.Stdout, kindStdout}, {&cmd.Stderr, kindStderr}} {
		o, end, err := newOutput(stream{w, x.k})
		if err != nil {
			closeAll(ends)
			endAll(outs)
			return result{Error: err.Error()}
		}
		*x.to, outs, ends = end, append(outs, o), append(ends, end)
	}
	err = cmd.Start()
	closeAll(ends)
	defer endAll(outs)
	if err != nil {
		return result{Error: err.Error()}
	}
	kill := func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	defer context.AfterFunc(ctx, kill)()
	ended := make(chan struct{})
	reading = true
	go func() {
		defer close(drained)
		defer stdin.Close()
		for {
			k, p, err := readFrame(r)
			if err != nil {
				select {
				case <-ended:
				default:
					kill()
				}
				return
			}
			switch k {
			case kindStdin:
				_, _ = stdin.Write(p) // the program may not want its input
			case kindStdinEOF:
				_ = stdin.Close()
			}
		}
	}()
	err = cmd.Wait()
	close(ended)
	return result{Code: exitCode(cmd.ProcessState, err), Pid: cmd.Process.Pid}
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

func endAll(outs []*output) {
	for _, o := range outs {
		o.end()
	}
}

func exitCode(st *os.ProcessState, err error) int {
	if st == nil {
		return -1
	}
	if ws, ok := st.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	if c := st.ExitCode(); c != 0 || err == nil {
		return c
	}
	return 0
}

func (s *Server) start(req request) result {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.procs[req.Name]; b != nil && b.Running {
		return result{Error: fmt.Sprintf("%s is running already, pid %d", req.Name, b.Pid)}
	}
	cmd, err := command(req.Command)
	if err != nil {
		return result{Error: err.Error()}
	}
	log, err := os.OpenFile(req.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644) //nolint:gosec // a log for people
	if err != nil {
		return result{Error: err.Error()}
	}
	pr, pw, err := os.Pipe()
	if err != nil {
		_ = log.Close()
		return result{Error: err.Error()}
	}
	cmd.Stdout, cmd.Stderr = pw, pw
	err = cmd.Start()
	_ = pw.Close()
	if err != nil {
		_ = log.Close()
		_ = pr.Close()
		return result{Error: err.Error()}
	}
	b := &background{Process: Process{Name: req.Name, Argv: req.Command.Argv, Pid: cmd.Process.Pid, Running: true}, done: make(chan struct{})}
	if s.procs == nil {
		s.procs = map[string]*background{}
	}
	s.procs[req.Name] = b
	go copyLog(log, pr)
	go func() {
		err := cmd.Wait()
		s.mu.Lock()
		b.Running, b.Code = false, exitCode(cmd.ProcessState, err)
		s.mu.Unlock()
		close(b.done)
	}()
	return result{Pid: b.Pid}
}

// copyLog copies what a background program prints to a file on the host. The node's
// page cache dies with the node, and the last lines before a kill are the interesting
// ones, so each piece is pushed out at once (without an fsync on the host).
func copyLog(log *os.File, r *os.File) {
	defer log.Close()
	defer r.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if _, werr := log.Write(buf[:n]); werr != nil {
				_, _ = io.Copy(io.Discard, r) // never let the program block on its log
				return
			}
			_ = unix.SyncFileRange(int(log.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER)
		}
		if err != nil {
			return
		}
	}
}

func (s *Server) signal(req request) result {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.procs[req.Name]
	if b == nil || !b.Running {
		return result{Error: req.Name + " is not running"}
	}
	if err := syscall.Kill(-b.Pid, syscall.Signal(req.Signal)); err != nil {
		return result{Error: fmt.Sprintf("signal %s: %v", req.Name, err)}
	}
	return result{Pid: b.Pid}
}

func (s *Server) wait(name string) result {
	s.mu.Lock()
	b := s.procs[name]
	s.mu.Unlock()
	if b == nil {
		return result{Error: name + " was never started"}
	}
	<-b.done
	return result{Pid: b.Pid, Code: b.Code}
}

func (s *Server) list() result {
	s.mu.Lock()
	defer s.mu.Unlock()
	var r result
	for _, b := range s.procs {
		r.Procs = append(r.Procs, b.Process)
	}
	return r
}

// put writes a file beside its place and renames it there, so a reader never sees half.
func put(req request, r io.Reader) result {
	tmp, err := os.CreateTemp(filepath.Dir(req.Path), ".put-*")
	if err != nil {
		return result{Error: err.Error()}
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	for {
		k, p, err := readFrame(r)
		if err != nil {
			return result{Error: err.Error()}
		}
		if k == kindStdinEOF {
			break
		}
		if _, err := tmp.Write(p); err != nil {
			return result{Error: err.Error()}
		}
	}
	err = errors.Join(tmp.Chmod(fs.FileMode(req.Mode).Perm()), tmp.Close(), os.Rename(tmp.Name(), req.Path))
	if err != nil {
		return result{Error: err.Error()}
	}
	return result{}
}

func get(req request, w *frameWriter) result {
	f, err := os.Open(req.Path)
	if err != nil {
		return result{Error: err.Error()}
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return result{Error: err.Error()}
	}
	// Not io.Copy: sysfs and configfs files want plain reads of a page or more.
	buf := make([]byte, 64<<10)
	for {
		n, err := f.Read(buf)
		if n > 0 {
			if werr := w.write(kindStdout, buf[:n]); werr != nil {
				return result{Error: werr.Error()}
			}
		}
		if errors.Is(err, io.EOF) {
			return result{Mode: uint32(st.Mode().Perm())}
		}
		if err != nil {
			return result{Error: err.Error()}
		}
	}
}
