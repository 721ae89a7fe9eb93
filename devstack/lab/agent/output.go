package agent

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// output passes on what a command writes. When the command has ended all of it is in the
// pipe, which a grandchild in the background may hold open for long: then it is read until it
// is empty, not until its end. A wait instead, however long, loses output on a slow node.
type output struct {
	r    *os.File
	done chan struct{}
}

// newOutput returns it and the end of the pipe for the command, which is the caller's to close.
func newOutput(to io.Writer) (*output, *os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	o := &output{r: r, done: make(chan struct{})}
	go func() {
		defer close(o.done)
		o.copy(to)
	}()
	return o, w, nil
}

func (o *output) copy(to io.Writer) {
	if _, err := io.Copy(to, o.r); !errors.Is(err, os.ErrDeadlineExceeded) {
		return
	}
	raw, err := o.r.SyscallConn()
	if err != nil || o.r.SetReadDeadline(time.Time{}) != nil {
		return
	}
	buf := make([]byte, 64<<10)
	_ = raw.Read(func(fd uintptr) bool {
		for {
			n, err := unix.Read(int(fd), buf)
			switch {
			case errors.Is(err, unix.EINTR):
				continue
			case n <= 0:
				return true
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return true
			}
		}
	})
}

// end returns when all that the command wrote has been passed on; it has ended.
func (o *output) end() {
	_ = o.r.SetReadDeadline(time.Now())
	<-o.done
	_ = o.r.Close()
}
