package lab

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// serviceTimeout bounds the start of one service on a busy machine.
const serviceTimeout = 4 * time.Minute

// startServices starts what the laboratory was asked for, side by side where one does
// not need the other.
func (l *Lab) startServices(ctx context.Context) error {
	want := func(s Service) bool { return slices.Contains(l.st.Services, s) }
	g, gctx := errgroup.WithContext(ctx)
	databases := make(chan struct{}) // closed when Postgres and memcached answer
	if want(Rabbit) {
		g.Go(func() error { return l.Start(gctx, Rabbit) })
	}
	g.Go(func() error {
		if err := l.useTemplate(gctx); err != nil {
			return err
		}
		in, ictx := errgroup.WithContext(gctx)
		for _, s := range []Service{Postgres, Memcached} {
			if want(s) {
				in.Go(func() error { return l.Start(ictx, s) })
			}
		}
		if err := in.Wait(); err != nil {
			return err
		}
		close(databases)
		return nil
	})
	after := func(s Service, ready <-chan struct{}) {
		g.Go(func() error {
			select {
			case <-ready:
				return l.Start(gctx, s)
			case <-gctx.Done():
				return nil // the cause is another's error
			}
		})
	}
	if want(Keystone) {
		after(Keystone, databases)
	}
	if want(Glance) {
		after(Glance, databases)
	}
	if err := g.Wait(); err != nil || !want(Keystone) {
		return err
	}
	if err := l.setupKeystone(ctx); err != nil {
		return err
	}
	return l.startOpenStack(ctx)
}

// startOpenStack starts the services that are laid over Keystone, Glance and the broker.
func (l *Lab) startOpenStack(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	for _, s := range []Service{Placement, Neutron, Cinder, Horizon} {
		if slices.Contains(l.st.Services, s) {
			g.Go(func() error { return l.Start(gctx, s) })
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if slices.Contains(l.st.Services, Nova) {
		return l.Start(ctx, Nova)
	}
	return nil
}

// processes are the names of a service's processes in starting order; the one that the
// service answers by comes last, and is called like it.
func (l *Lab) processes(s Service) []string {
	switch s {
	case Nova:
		return append(l.novaProcesses(), string(s))
	case Cinder:
		return []string{cinderScheduler, cinderVolume, string(s)}
	}
	return []string{string(s)}
}

// Start starts a service and waits until it answers. It is used after Stop, too: what
// the service stored is there again.
func (l *Lab) Start(ctx context.Context, s Service) error {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, serviceTimeout)
	defer cancel()
	var err error
	switch s {
	case Postgres:
		err = l.startPostgres(ctx)
	case Rabbit:
		err = l.startRabbit(ctx)
	case Memcached:
		err = l.startMemcached(ctx)
	case Keystone:
		err = l.startKeystone(ctx)
	case Glance:
		err = l.startGlance(ctx)
	case Placement:
		err = l.startPlacement(ctx)
	case Neutron:
		err = l.startNeutron(ctx)
	case Nova:
		err = l.startNova(ctx)
	case Cinder:
		err = l.startCinder(ctx)
	case Horizon:
		err = l.startHorizon(ctx)
	default:
		err = fmt.Errorf("%w: unknown service", ErrOptions)
	}
	if err != nil {
		return fmt.Errorf("service %s: %w%s", s, err, tail(l.LogPath(string(s))))
	}
	l.progress("%s up in %.1f s", s, time.Since(start).Seconds())
	return l.remember(s)
}

// remember that the laboratory has a service, though it may have been made without it.
func (l *Lab) remember(s Service) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if slices.Contains(l.st.Services, s) {
		return nil
	}
	l.st.Services = append(l.st.Services, s)
	return l.save()
}

// Stop stops a service in good order, and by force after 10 s.
func (l *Lab) Stop(ctx context.Context, s Service) error {
	sig := syscall.SIGTERM
	if s == Postgres {
		sig = syscall.SIGINT // "fast": ends the clients' sessions instead of waiting for them
	}
	return l.stopProcs(ctx, s, sig, 10*time.Second)
}

func (l *Lab) stopProcs(ctx context.Context, s Service, sig syscall.Signal, grace time.Duration) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, name := range l.processes(s) {
		g.Go(func() error { return l.stopProc(ctx, name, sig, grace) })
	}
	return g.Wait()
}

// KillService is Stop without the good order. Not for Postgres, which then leaves
// shared memory on the host: it gets SIGQUIT, its own way to crash.
func (l *Lab) KillService(ctx context.Context, s Service) error {
	if s == Postgres {
		return l.stopProcs(ctx, s, syscall.SIGQUIT, 5*time.Second)
	}
	return l.stopProcs(ctx, s, syscall.SIGKILL, 0)
}

// Pause stops all processes of a service where they are (SIGSTOP): connections stay
// open and nobody answers.
func (l *Lab) Pause(s Service) error { return l.signalService(s, syscall.SIGSTOP) }

// Resume ends Pause.
func (l *Lab) Resume(s Service) error { return l.signalService(s, syscall.SIGCONT) }

// Running says whether the process that a service answers by runs.
func (l *Lab) Running(s Service) bool {
	_, ok := l.procOf(string(s))
	return ok
}

func (l *Lab) signalService(s Service, sig syscall.Signal) error {
	for _, name := range l.processes(s) {
		if err := l.signalFamily(name, sig); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) signalFamily(name string, sig syscall.Signal) error {
	p, ok := l.procOf(name)
	if !ok {
		return fmt.Errorf("signal %s: %w", name, ErrNotRunning)
	}
	for _, q := range l.family(p) {
		if err := q.signal(sig); err != nil {
			return err
		}
	}
	return nil
}

// ready calls probe until it succeeds; the process's end is the end of waiting, too.
func ready(ctx context.Context, p procID, probe func(context.Context) error) error {
	t := time.NewTicker(50 * time.Millisecond)
	defer t.Stop()
	for {
		err := probe(ctx)
		if err == nil {
			return nil
		}
		if !p.alive() {
			return fmt.Errorf("process ended before it answered: %w", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("does not answer: %w", err)
		case <-t.C:
		}
	}
}

func hostPort(port int) string { return net.JoinHostPort(HostAddress, strconv.Itoa(port)) }

// startMemcached starts the cache that Keystone and its middleware share.
func (l *Lab) startMemcached(ctx context.Context) error {
	p, err := l.startProc(spec{
		name: string(Memcached), log: l.LogPath(string(Memcached)), dir: "/", env: cleanEnv(filepath.Join(l.dir, "home")),
		argv: []string{"memcached", "-u", "nobody", "-l", "127.0.0.1", "-p", strconv.Itoa(PortMemcached), "-U", "0", "-m", "64", "-t", "2"},
	})
	if err != nil {
		return err
	}
	return ready(ctx, p, func(ctx context.Context) error {
		c, err := l.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", PortMemcached))
		if err != nil {
			return err
		}
		return c.Close()
	})
}

// Process is a program on the host, inside the laboratory's namespace.
type Process struct {
	lab  *Lab
	name string
	id   procID
}

// StartHost starts a program of the project (vmthunder-api, say) inside the namespace,
// in the background, its output in LogPath(name). env is added to a clean environment.
func (l *Lab) StartHost(name string, argv, env []string) (*Process, error) {
	if !nameRE.MatchString(name) || slices.Contains(AllServices(), Service(name)) {
		return nil, fmt.Errorf("%w: process name %q", ErrOptions, name)
	}
	id, err := l.startProc(spec{
		name: name, argv: argv, dir: l.dir, log: l.LogPath(name), env: cleanEnv(filepath.Join(l.dir, "home"), env...),
	})
	if err != nil {
		return nil, err
	}
	return &Process{lab: l, name: name, id: id}, nil
}

// HostProcess finds a program that was started with StartHost, by any process.
func (l *Lab) HostProcess(name string) (*Process, error) {
	id, ok := l.procOf(name)
	if !ok {
		return nil, fmt.Errorf("process %s: %w", name, ErrNotRunning)
	}
	return &Process{lab: l, name: name, id: id}, nil
}

// Pid is the process's id on the host.
func (p *Process) Pid() int { return p.id.Pid }

// Running says whether it still runs.
func (p *Process) Running() bool { return p.id.alive() }

// LogPath is the file with its output.
func (p *Process) LogPath() string { return p.lab.LogPath(p.name) }

// Signal sends a signal to the process.
func (p *Process) Signal(sig syscall.Signal) error { return p.id.signal(sig) }

// Wait waits for the process's end.
func (p *Process) Wait(ctx context.Context) error { return p.id.gone(ctx) }

// Kill ends the process and all it started, at once.
func (p *Process) Kill(ctx context.Context) error {
	return p.lab.stopProc(ctx, p.name, syscall.SIGKILL, 0)
}

// Stop ends the process by SIGTERM, and by force after grace.
func (p *Process) Stop(ctx context.Context, grace time.Duration) error {
	return p.lab.stopProc(ctx, p.name, syscall.SIGTERM, grace)
}

// WaitLog waits until the process has printed a line for which match is true; earlier
// lines count.
func (p *Process) WaitLog(ctx context.Context, match func(line string) bool) error {
	err := waitLine(ctx, p.LogPath(), 0, p.id, func(s string) (bool, error) { return match(s), nil })
	if err != nil {
		return fmt.Errorf("process %s: %w%s", p.name, err, tail(p.LogPath()))
	}
	return nil
}
