package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const netnsDir = "/run/netns"

func netnsPath(name string) string { return filepath.Join(netnsDir, name) }

// ip runs iproute2 with a batch of commands inside the namespace.
func (l *Lab) ip(ctx context.Context, lines ...string) error {
	return tool(ctx, strings.Join(lines, "\n")+"\n", "ip", "-n", l.st.Namespace, "-batch", "-")
}

// tool runs a short host command; its output is in the error.
func tool(ctx context.Context, stdin string, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = cleanEnv("/root")
	cmd.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(out.String()))
	}
	return nil
}

// makeNamespace makes the namespace with loopback and bridge up. IPv6 is off: its
// duplicate address detection would only delay the first packets.
func (l *Lab) makeNamespace(ctx context.Context) error {
	if err := tool(ctx, "", "ip", "netns", "add", l.st.Namespace); err != nil {
		return err
	}
	return l.ip(ctx,
		"link set lo up",
		"link add "+bridge+" type bridge",
		fmt.Sprintf("addr add %s/%d dev %s", HostAddress, networkPrefix, bridge),
		"link set "+bridge+" up")
}

func tapName(host int) string { return fmt.Sprintf("tap%d", host) }

func (l *Lab) makeTap(ctx context.Context, host int) error {
	t := tapName(host)
	return l.ip(ctx, "tuntap add dev "+t+" mode tap", "link set "+t+" master "+bridge+" up")
}

func sameFile(a, b string) bool {
	x, errx := os.Stat(a)
	y, erry := os.Stat(b)
	return errx == nil && erry == nil && os.SameFile(x, y)
}

// inside runs f on a thread that is in the laboratory's network namespace; processes
// and sockets that f makes on its own goroutine are born there.
func (l *Lab) inside(f func() error) error {
	path := netnsPath(l.st.Namespace)
	if sameFile("/proc/thread-self/ns/net", path) {
		return f() // the whole process was started inside
	}
	return onThread(func() error {
		if err := enter(path); err != nil {
			return err
		}
		return f()
	})
}

// onThread runs f on a thread of its own, whose namespaces f may change.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the thread ends with the goroutine, so no other goroutine
		// ever runs in the wrong namespace.
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

// mounted runs f in the laboratory's network namespace and in a mount namespace of its
// own, in which dir is a mount point, bound to itself. The namespace ends with the last
// process that f starts; the host's mount table never changes.
func (l *Lab) mounted(dir string, f func() error) error {
	return onThread(func() error {
		if err := enter(netnsPath(l.st.Namespace)); err != nil {
			return err
		}
		// A mount namespace needs a working directory of its own, which Go's threads share.
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("make mount namespace: %w", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
			return fmt.Errorf("make mount namespace: %w", err)
		}
		if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s: %w", dir, err)
		}
		return f()
	})
}

func enter(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", path, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", path, err)
	}
	return nil
}

// DialContext connects from inside the laboratory's namespace, wherever the caller is.
// The address must be numeric. It fits net/http.Transport.DialContext.
func (l *Lab) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	var c net.Conn
	err := l.inside(func() error {
		var err error
		c, err = (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// RunInside runs a prepared host command inside the namespace.
func (l *Lab) RunInside(cmd *exec.Cmd) error {
	if err := l.inside(cmd.Start); err != nil {
		return err
	}
	return cmd.Wait()
}

// members lists the processes inside the namespace, without the calling one and its
// ancestors.
func (l *Lab) members() []procID {
	ns, err := os.Stat(netnsPath(l.st.Namespace))
	if err != nil {
		return nil
	}
	spare := map[int]bool{}
	for pid := os.Getpid(); pid > 1 && !spare[pid]; {
		spare[pid] = true
		st, err := readStat(pid)
		if err != nil {
			break
		}
		pid = st.ppid
	}
	return allProcs(func(st procStat) bool {
		if spare[st.pid] {
			return false
		}
		return inNamespace(ns, st.pid)
	})
}

// clearNamespace kills whatever still runs inside and removes the namespace, and with
// it the bridge and all taps.
func (l *Lab) clearNamespace(ctx context.Context) error {
	if _, err := os.Stat(netnsPath(l.st.Namespace)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for {
		ps := l.members()
		if len(ps) == 0 {
			break
		}
		if err := killAll(ctx, ps); err != nil {
			return err
		}
	}
	return tool(ctx, "", "ip", "netns", "delete", l.st.Namespace)
}
