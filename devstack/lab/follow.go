package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// waitLine follows a growing file from offset until match says that a line is the one,
// or fails, or the process that writes the file ends. inotify(7) tells of growth; the
// poll's time limit is only there to notice ctx and the writer's end.
func waitLine(ctx context.Context, path string, offset int64, writer procID, match func(line string) (bool, error)) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return err
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("follow %s: %w", path, err)
	}
	defer unix.Close(fd)
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_MODIFY); err != nil {
		return fmt.Errorf("follow %s: %w", path, err)
	}
	r := bufio.NewReader(f)
	partial := ""
	for {
		ended := !writer.alive() // asked before the last read, so nothing it wrote is missed
		for {
			s, err := r.ReadString('\n')
			partial += s
			if err != nil {
				break
			}
			done, merr := match(strings.TrimRight(partial, "\r\n"))
			if done || merr != nil {
				return merr
			}
			partial = ""
		}
		if ended {
			return errors.New("process ended")
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 200); n > 0 {
			var buf [4096]byte
			_, _ = unix.Read(fd, buf[:]) // what it says is known: the file grew
		}
	}
}
