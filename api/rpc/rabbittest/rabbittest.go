// Package rabbittest runs a RabbitMQ of a test's own, on loopback, in a directory
// that goes with it. It needs rabbitmq-server, as packaged by Debian, Ubuntu and the RHEL
// family; not root.
package rabbittest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	user     = "test"
	password = "p@ss:word" // wants escaping
	patience = 90 * time.Second
)

// Broker is a RabbitMQ node with its own epmd.
type Broker struct {
	dir, script      string
	port, dist, epmd int
	mu               sync.Mutex
	names, node      *process
}

var shared struct {
	sync.Mutex
	b *Broker
}

// Start gives the test binary's broker, starting it if it doesn't run; that takes
// some seconds, so all tests share it. The binary's TestMain must be [Main].
func Start(tb testing.TB) *Broker {
	tb.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.b == nil {
		b, err := New()
		if err != nil {
			tb.Fatalf("rabbittest: %v", err)
		}
		shared.b = b
	}
	return shared.b
}

// Main runs the tests and then stops the broker [Start] has started. It returns
// the exit code.
func Main(m interface{ Run() int }) int {
	code := m.Run()
	shared.Lock()
	defer shared.Unlock()
	if shared.b != nil {
		if err := shared.b.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "rabbittest:", err)
			code = max(code, 1)
		}
		shared.b = nil
	}
	return code
}

// New starts a broker that must be closed.
func New() (*Broker, error) {
	script, err := server()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "rabbittest")
	if err != nil {
		return nil, err
	}
	b := &Broker{dir: dir, script: script}
	if err = b.configure(); err == nil {
		err = b.Start()
	}
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// server looks for the script itself; the one in PATH wants to change its user.
func server() (string, error) {
	found, _ := filepath.Glob("/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server")
	if len(found) > 0 {
		return found[len(found)-1], nil
	}
	return exec.LookPath("rabbitmq-server")
}

func (b *Broker) configure() error {
	var err error
	for _, p := range []*int{&b.port, &b.dist, &b.epmd} {
		if *p, err = freePort(); err != nil {
			return err
		}
	}
	for _, d := range []string{"mnesia", "log", "gen"} {
		if err := os.Mkdir(filepath.Join(b.dir, d), 0o700); err != nil {
			return err
		}
	}
	conf := fmt.Sprintf(`listeners.tcp.1 = 127.0.0.1:%d
default_user = %s
default_pass = %s
vm_memory_high_watermark.absolute = 512MB
disk_free_limit.absolute = 50MB
log.console = false
max_message_size = 4000000
`, b.port, user, password)
	for name, text := range map[string]string{"rabbitmq.conf": conf, "env.conf": "", "enabled_plugins": "[]."} {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// freePort is free just now; nobody is hindered from taking it before us.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	a, _ := l.Addr().(*net.TCPAddr)
	return a.Port, nil
}

func (b *Broker) env() []string {
	in := func(name string) string { return filepath.Join(b.dir, name) }
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + b.dir, "LANG=C.UTF-8",
		"RABBITMQ_NODENAME=t" + strconv.Itoa(b.port) + "@localhost",
		"RABBITMQ_NODE_IP_ADDRESS=127.0.0.1",
		"RABBITMQ_NODE_PORT=" + strconv.Itoa(b.port), "RABBITMQ_DIST_PORT=" + strconv.Itoa(b.dist),
		"ERL_EPMD_PORT=" + strconv.Itoa(b.epmd), "ERL_EPMD_ADDRESS=127.0.0.1",
		"RABBITMQ_MNESIA_BASE=" + in("mnesia"), "RABBITMQ_LOG_BASE=" + in("log"),
		"RABBITMQ_CONFIG_FILE=" + in("rabbitmq.conf"), "RABBITMQ_CONF_ENV_FILE=" + in("env.conf"),
		"RABBITMQ_ENABLED_PLUGINS_FILE=" + in("enabled_plugins"), "RABBITMQ_PID_FILE=" + in("pid"),
		"RABBITMQ_GENERATED_CONFIG_DIR=" + in("gen"), "RABBITMQ_FEATURE_FLAGS_FILE=" + in("feature_flags"),
		"RUNNING_UNDER_SYSTEMD=1", // no shell in between: it would outlive us
		// Idle Erlang schedulers spin; a test machine has better to do.
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none",
	}
}

// URL is the broker's transport_url, with user and password.
func (b *Broker) URL() string { return b.urlAt(b.Addr()) }

// Addr is the broker's host:port.
func (b *Broker) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(b.port)) }

func (b *Broker) urlAt(addr string) string {
	return "rabbit://" + user + ":" + strings.NewReplacer("@", "%40", ":", "%3A").Replace(password) + "@" + addr + "/"
}

// Start starts a broker that was stopped, on the same port, with what was durable.
func (b *Broker) Start() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.names == nil {
		p, err := start(b.dir, "epmd", b.env(), "epmd", "-address", "127.0.0.1", "-port", strconv.Itoa(b.epmd))
		if err != nil {
			return err
		}
		b.names = p
		if err := p.listens(net.JoinHostPort("127.0.0.1", strconv.Itoa(b.epmd))); err != nil {
			return err
		}
	}
	if b.node != nil {
		return nil
	}
	p, err := start(b.dir, "rabbit", b.env(), b.script)
	if err != nil {
		return err
	}
	b.node = p
	return p.listens(b.Addr())
}

// Stop kills the broker, as a crash does. What is not durable is lost.
func (b *Broker) Stop() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.node.kill()
	b.node = nil
	return err
}

// Pause stops the broker's process without closing its connections.
func (b *Broker) Pause() error { return b.signal(syscall.SIGSTOP) }

// Resume undoes Pause.
func (b *Broker) Resume() error { return b.signal(syscall.SIGCONT) }

func (b *Broker) signal(s syscall.Signal) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.node.signal(s)
}

// Close kills everything and removes the directory.
func (b *Broker) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	err := errors.Join(b.node.kill(), b.names.kill())
	b.node, b.names = nil, nil
	return errors.Join(err, os.RemoveAll(b.dir))
}

// process and its children, a process group.
type process struct {
	name string
	log  string
	cmd  *exec.Cmd
	done chan struct{}
}

func start(dir, name string, env []string, argv ...string) (*process, error) {
	p := &process{name: name, log: filepath.Join(dir, name+".out"), done: make(chan struct{})}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = out.Close() }()
	p.cmd = exec.Command(argv[0], argv[1:]...) //nolint:gosec,noctx // fixed programs; lives beyond any context
	p.cmd.Env, p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = env, dir, out, out
	// A test binary that dies, as of its time limit, takes the broker with it: the signal
	// comes with the end of the thread that started it, so that one waits for it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait()
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

func (p *process) signal(s syscall.Signal) error {
	if p == nil {
		return nil
	}
	select {
	case <-p.done:
		return nil
	default:
	}
	return syscall.Kill(-p.cmd.Process.Pid, s) // its group, which we made
}

func (p *process) kill() error {
	if p == nil {
		return nil
	}
	if err := p.signal(syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill %s: %w", p.name, err)
	}
	<-p.done
	return nil
}

// listens waits until somebody does at addr.
func (p *process) listens(addr string) error {
	for end := time.Now().Add(patience); time.Now().Before(end); {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			return c.Close()
		}
		select {
		case <-p.done:
			out, _ := os.ReadFile(p.log)
			return fmt.Errorf("%s ended: %s", p.name, out)
		case <-time.After(50 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s does not listen at %s within %s", p.name, addr, patience)
}
