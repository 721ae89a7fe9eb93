package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Lab is a laboratory, made by Up or joined by Open. It is safe for concurrent use.
type Lab struct {
	dir      string
	mu       sync.Mutex // guards st.Nodes and lab.json
	st       state
	progress func(format string, args ...any)
	leash    *os.File   // its closing, by whatever, is the owner's end
	mapping  sync.Mutex // of compute hosts to the cell
}

// Dir is the state directory.
func (l *Lab) Dir() string { return l.dir }

// Name is the name given in Options.
func (l *Lab) Name() string { return l.st.Name }

// Namespace is the name of the network namespace, as ip-netns(8) knows it.
func (l *Lab) Namespace() string { return l.st.Namespace }

// Owner is the pid of the process the laboratory belongs to and whether it still runs;
// 0 for a laboratory that stands until Down.
func (l *Lab) Owner() (pid int, running bool) {
	if l.st.Owner == nil {
		return 0, false
	}
	return l.st.Owner.Pid, l.st.Owner.alive()
}

// LogPath is the log of a service or host process.
func (l *Lab) LogPath(name string) string { return filepath.Join(l.dir, "log", name+".log") }

// Up makes a laboratory. On an error nothing of it is left but the directory log in its
// state directory, with the nodes' consoles, too; when ctx ended, not even that.
func Up(ctx context.Context, o Options) (*Lab, error) {
	l, err := prepare(o)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if err := l.up(ctx, o); err != nil {
		dctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if ctx.Err() != nil { // what the services say of it would only distract
			err = ctx.Err()
		}
		err = fmt.Errorf("laboratory %s: %w", l.st.Name, err)
		return nil, errors.Join(err, l.release(dctx), l.leaveLogs(ctx.Err() == nil))
	}
	l.progress("laboratory %s is up in %.1f s, state in %s", l.st.Name, time.Since(start).Seconds(), l.dir)
	return l, nil
}

// leaveLogs removes the state directory, but for the logs if they are wanted.
func (l *Lab) leaveLogs(want bool) error {
	if !want {
		return os.RemoveAll(l.dir)
	}
	for _, n := range l.Nodes() {
		err := os.Rename(n.ConsolePath(), l.LogPath(n.procName()))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != "log" {
			if err := os.RemoveAll(filepath.Join(l.dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func prepare(o Options) (*Lab, error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("%w: a laboratory needs root (network namespaces, taps, user postgres)", ErrOptions)
	}
	if o.Name == "" {
		o.Name = "lab"
	}
	if !nameRE.MatchString(o.Name) {
		return nil, fmt.Errorf("%w: name %q", ErrOptions, o.Name)
	}
	services, err := closure(o.Services)
	if err != nil {
		return nil, err
	}
	id := randomID()
	l := &Lab{progress: o.Progress, st: state{
		Name: o.Name, ID: id, Namespace: "vmt-" + o.Name + "-" + id, Created: time.Now().UTC(),
		Services: services, Cache: cacheDir(o.TemplateDir), VolumeURL: o.VolumeURL,
	}}
	l.st.Computes = computes(o)
	for _, h := range l.st.Computes {
		if !nameRE.MatchString(h) {
			return nil, fmt.Errorf("%w: compute host %q", ErrOptions, h)
		}
	}
	if l.progress == nil {
		l.progress = func(string, ...any) {}
	}
	if l.st.VolumeURL == "" {
		l.st.VolumeURL = fmt.Sprintf("http://%s:%d/v3/%%(project_id)s", HostAddress, PortVolume)
	}
	l.dir = o.StateDir
	if l.dir == "" {
		l.dir = filepath.Join(BaseDir(), o.Name)
		if o.Owned {
			l.dir += "-" + id
		}
	}
	if l.dir, err = filepath.Abs(l.dir); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(l.dir, stateFile)); err == nil {
		return nil, fmt.Errorf("%w: %s", ErrExists, l.dir)
	}
	if o.Owned {
		p, err := identify(os.Getpid())
		if err != nil {
			return nil, err
		}
		l.st.Owner = &p
	}
	return l, nil
}

// computes are the hosts that Nova gets a compute service for.
func computes(o Options) []string {
	if o.Computes != nil {
		return o.Computes
	}
	var out []string
	for _, n := range o.Nodes {
		out = append(out, n.Name)
	}
	return out
}

func (l *Lab) up(ctx context.Context, o Options) error {
	for _, d := range []string{"run", "log", "nodes", "tmp", "home"} {
		if err := os.MkdirAll(filepath.Join(l.dir, d), 0o755); err != nil {
			return err
		}
	}
	l.st.Memory = l.memoryDir(o.Nodes)
	if err := os.MkdirAll(l.st.Memory, 0o700); err != nil {
		return err
	}
	var err error
	if len(o.Nodes) > 0 || o.Owned || o.Binary != "" || slices.Contains(l.st.Services, Neutron) {
		if l.st.Binary, err = l.findBinary(ctx, o.Binary); err != nil {
			return err
		}
	}
	if err := l.save(); err != nil {
		return err
	}
	if o.Owned {
		if err := l.startReaper(); err != nil {
			return err
		}
	}
	if err := l.makeNamespace(ctx); err != nil {
		return err
	}
	nodes, err := l.registerAll(o.Nodes) // services may ask for their addresses
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.startServices(gctx) })
	g.Go(func() error { return bootAll(gctx, nodes) })
	if err := g.Wait(); err != nil {
		return err
	}
	if o.Images {
		return l.registerImages(ctx)
	}
	return nil
}

// memoryDir chooses where the nodes' memory lives: tmpfs when all of it fits there with
// a quarter to spare, else the state directory.
func (l *Lab) memoryDir(nodes []NodeSpec) string {
	var need uint64 = 256 << 20
	for _, n := range nodes {
		m := n.Memory
		if m <= 0 {
			m = defaultMemory
		}
		need += uint64(m) << 20
	}
	var fs unix.Statfs_t
	if unix.Statfs(shmDir, &fs) == nil && fs.Type == unix.TMPFS_MAGIC && fs.Bavail*uint64(fs.Bsize)*3/4 > need {
		return filepath.Join(shmDir, "vmthunder-lab-"+l.st.ID)
	}
	return filepath.Join(l.dir, "mem")
}

// Down takes the laboratory down and removes all it has, its state directory included.
// It works from any process, and on what a crash left.
func (l *Lab) Down(ctx context.Context) error {
	unlock, err := l.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := l.release(ctx); err != nil {
		return fmt.Errorf("take down laboratory %s: %w", l.st.Name, err)
	}
	if err := os.RemoveAll(l.dir); err != nil {
		return fmt.Errorf("take down laboratory %s: %w", l.st.Name, err)
	}
	return nil
}

// Release ends all processes and removes namespace and memory, but leaves the state
// directory with logs, disks and databases for a look. Down may follow.
func (l *Lab) Release(ctx context.Context) error {
	unlock, err := l.lock()
	if err != nil {
		return err
	}
	defer unlock()
	return l.release(ctx)
}

func (l *Lab) release(ctx context.Context) error {
	// We do the reaper's work, unless this is the reaper.
	if p, ok := l.procOf("reaper"); ok && p.Pid != os.Getpid() {
		if err := killAll(ctx, []procID{p}); err != nil {
			return err
		}
	}
	if l.leash != nil {
		_ = l.leash.Close()
	}
	// Postgres alone must be asked: killed, it leaves shared memory behind.
	if err := l.stopProc(ctx, string(Postgres), syscall.SIGQUIT, 5*time.Second); err != nil {
		return err
	}
	if err := l.clearNamespace(ctx); err != nil {
		return err
	}
	if l.st.Memory == "" {
		return nil
	}
	return os.RemoveAll(l.st.Memory)
}

// lock keeps two processes from taking the laboratory down at once.
func (l *Lab) lock() (func(), error) {
	f, err := os.OpenFile(filepath.Join(l.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock laboratory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock laboratory: %w", err)
	}
	return func() { _ = f.Close() }, nil
}
