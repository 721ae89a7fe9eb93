package dbtest

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	_ "github.com/lib/pq" // the driver of the server's own connections

	"github.com/vmthunder/vmthunder/db"
)

// Server is a PostgreSQL server on a loopback port and a unix socket, without passwords
// and without the flushes that make data outlive a crash of the machine.
type Server struct {
	Port int
	Dir  string // of the data, the socket and the log
	bin  string
	as   *syscall.Credential // nil: the current user

	process *os.Process
	exited  chan struct{} // closed when process is gone
}

const missing = `PostgreSQL's server programs (initdb, postgres) were not found in /usr/lib/postgresql/*/bin, /usr/pgsql-*/bin, /usr/local/bin or $PATH.
Install them (Debian, Ubuntu: apt install postgresql; RHEL: dnf install postgresql-server) or set VMTHUNDER_TEST_PG_BIN to their folder`

// binaries finds the newest server's programs.
func binaries() (string, error) {
	if d := os.Getenv("VMTHUNDER_TEST_PG_BIN"); d != "" {
		return d, nil
	}
	var dirs []string
	for _, p := range []string{"/usr/pgsql-*/bin", "/usr/lib/postgresql/*/bin"} {
		found, _ := filepath.Glob(p)
		dirs = append(dirs, found...)
	}
	slices.SortFunc(dirs, func(a, b string) int { return len(a) - len(b) }) // 9.6 before 15 is not worth more
	slices.Reverse(dirs)
	dirs = append(dirs, "/usr/local/bin")
	if p, err := exec.LookPath("initdb"); err == nil {
		dirs = append(dirs, filepath.Dir(p))
	}
	for _, d := range dirs {
		if _, err := os.Stat(filepath.Join(d, "initdb")); err == nil {
			return d, nil
		}
	}
	return "", errors.New(missing)
}

func start() (s *Server, err error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	// Not TMPDIR: user postgres must get there, and a socket's path is short.
	dir, err := os.MkdirTemp("/tmp", "vmthunder-pg-")
	if err != nil {
		return nil, err
	}
	s = &Server{Dir: dir, bin: bin}
	defer func() {
		if err != nil {
			_ = s.close()
		}
	}()
	if os.Getuid() == 0 {
		if err := s.dropRoot(); err != nil {
			return nil, err
		}
	}
	initdb := s.command("initdb", "--pgdata="+s.data(), "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	for range 5 { // the port may be taken between our look and the server's
		if s.Port, err = freePort(); err != nil {
			return nil, err
		}
		if err = s.Start(); err == nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	return s, s.makeTemplate()
}

func (s *Server) dropRoot() error {
	u, err := user.Lookup("postgres")
	if err != nil {
		return fmt.Errorf("user postgres, whom tests run by root use for the server: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return err
	}
	s.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return os.Chown(s.Dir, int(uid), int(gid))
}

func (s *Server) data() string { return filepath.Join(s.Dir, "data") }

func (s *Server) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, program), args...) //nolint:gosec,noctx // a program this package chose; it ends with the tests
	cmd.Dir = s.Dir
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "PGDATA="+s.data())
	// A group of its own: Ctrl-C is for the tests, which then stop it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as, Setpgid: true}
	return cmd
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // answers at once
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil //nolint:forcetypeassert // a TCP listener's
}

// URL is the connection string of a database over loopback TCP.
func (s *Server) URL(database string) string {
	return fmt.Sprintf("postgresql://postgres@127.0.0.1:%d/%s", s.Port, database)
}

// SocketURL is the connection string over the unix socket.
func (s *Server) SocketURL(database string) string {
	return fmt.Sprintf("postgresql+psycopg2://postgres@/%s?host=%s&port=%d&charset=utf8", database, s.Dir, s.Port)
}

// Start starts the server, on the same port and data as before, and waits until it answers.
func (s *Server) Start() error {
	log, err := os.OpenFile(filepath.Join(s.Dir, "log"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := s.command("postgres", "-D", s.data(), "-p", strconv.Itoa(s.Port), "-k", s.Dir,
		"-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "full_page_writes=off",
		"-c", "max_connections=200", "-c", "shared_buffers=64MB", "-c", "deadlock_timeout=100ms", "-c", "autovacuum=off")
	cmd.Stdout, cmd.Stderr = log, log
	// The server must not outlive a test binary that is killed. The kernel sends this signal
	// when the thread that forked ends, so the thread is held until the server is gone.
	cmd.SysProcAttr.Pdeathsig = syscall.SIGQUIT
	started, exited := make(chan error, 1), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(exited)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}
	s.process, s.exited = cmd.Process, exited
	return s.wait()
}

// wait until the server answers or is gone.
func (s *Server) wait() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		err := s.admin(ctx, "SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-s.exited:
			out, _ := os.ReadFile(filepath.Join(s.Dir, "log"))
			return fmt.Errorf("postgres ended: %s", bytes.TrimSpace(out))
		case <-ctx.Done():
			return fmt.Errorf("postgres does not answer: %w", err)
		case <-time.After(20 * time.Millisecond): // the server has no event to wait for
		}
	}
}

// Stop stops the server as a crash would: all connections break, the next Start recovers.
func (s *Server) Stop() error {
	if !s.running() {
		return nil
	}
	if err := s.process.Signal(syscall.SIGQUIT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop postgres: %w", err)
	}
	select {
	case <-s.exited:
		return nil
	case <-time.After(30 * time.Second):
		return fmt.Errorf("postgres (pid %d) does not stop", s.process.Pid)
	}
}

func (s *Server) running() bool {
	if s.process == nil {
		return false
	}
	select {
	case <-s.exited:
		return false
	default:
		return true
	}
}

func (s *Server) close() error {
	return errors.Join(s.Stop(), os.RemoveAll(s.Dir))
}

// admin runs one statement outside of any test's database.
func (s *Server) admin(ctx context.Context, statement string) error {
	conn, err := sql.Open("postgres", fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=postgres sslmode=disable connect_timeout=5", s.Port))
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.ExecContext(ctx, statement)
	return err
}

func (s *Server) makeTemplate() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.admin(ctx, "CREATE DATABASE "+template); err != nil {
		return fmt.Errorf("template database: %w", err)
	}
	store, err := db.Open(ctx, s.URL(template), db.Options{})
	if err != nil {
		return fmt.Errorf("template database: %w", err)
	}
	defer store.Close()
	if err := store.Migrate(ctx); err != nil {
		return fmt.Errorf("template database: %w", err)
	}
	return store.Close()
}
