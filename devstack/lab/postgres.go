package lab

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"

	"github.com/lib/pq"
)

// postgresConf is appended to initdb's. Data is worth nothing here, but the order of
// things is: fsync stays on, so that a crash of Postgres behaves as in production.
const postgresConf = `
listen_addresses = '0.0.0.0'
port = %d
unix_socket_directories = '%s'
max_connections = 200
shared_buffers = 64MB
fsync = on
dynamic_shared_memory_type = mmap
logging_collector = off
log_min_duration_statement = -1
max_wal_size = 512MB
autovacuum_naptime = 20s
`

const postgresHBA = `local all all trust
host all all 127.0.0.1/32 trust
host all all 10.77.0.0/24 trust
`

func (l *Lab) pgDir() string { return filepath.Join(l.dir, "pg") }

// pgBin finds the newest installed server; Debian keeps versions side by side.
func pgBin() (string, error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres") // the pattern is well-formed
	if len(found) == 0 {
		return "", fmt.Errorf("%w: no /usr/lib/postgresql/*/bin/postgres; run devstack/packages.sh postgres", os.ErrNotExist)
	}
	version := func(p string) int {
		v, _ := strconv.Atoi(strings.Split(p, "/")[4])
		return v
	}
	sort.Slice(found, func(i, j int) bool { return version(found[i]) > version(found[j]) })
	return filepath.Dir(found[0]), nil
}

func credential(name string) (*syscall.Credential, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// initPostgres makes a fresh cluster. Its configuration is written by each start, so a
// copy of the cluster serves any laboratory.
func (l *Lab) initPostgres(ctx context.Context, bin string, cred *syscall.Credential) error {
	data := filepath.Join(l.pgDir(), "data")
	if _, err := os.Stat(filepath.Join(data, "PG_VERSION")); err == nil {
		return nil
	}
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	for _, d := range []string{l.pgDir(), data} {
		if err := os.Chown(d, int(cred.Uid), int(cred.Gid)); err != nil {
			return err
		}
		if err := os.Chmod(d, 0o700); err != nil {
			return err
		}
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", data, "-E", "UTF8", "--locale=C.UTF-8", "-A", "trust", "--no-sync", "-U", "postgres")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	cmd.Env, cmd.Dir = cleanEnv(l.pgDir()), "/"
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	return nil
}

func (l *Lab) startPostgres(ctx context.Context) error {
	bin, err := pgBin()
	if err != nil {
		return err
	}
	cred, err := credential("postgres")
	if err != nil {
		return err
	}
	if err := l.initPostgres(ctx, bin, cred); err != nil {
		return err
	}
	data := filepath.Join(l.pgDir(), "data")
	for name, text := range map[string]string{
		"postgresql.auto.conf": fmt.Sprintf(postgresConf, PortPostgres, l.pgDir()),
		"pg_hba.conf":          postgresHBA,
	} {
		path := filepath.Join(data, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
		if err := os.Chown(path, int(cred.Uid), int(cred.Gid)); err != nil {
			return err
		}
	}
	_ = os.Remove(filepath.Join(data, "postmaster.pid")) // of a crash; the pid may be another's by now
	p, err := l.startProc(spec{
		name: string(Postgres), argv: []string{filepath.Join(bin, "postgres"), "-D", data}, dir: "/",
		env: cleanEnv(l.pgDir()), log: l.LogPath(string(Postgres)), cred: cred,
	})
	if err != nil {
		return err
	}
	db, err := l.superuser()
	if err != nil {
		return err
	}
	defer db.Close()
	if err := ready(ctx, p, db.PingContext); err != nil {
		return err
	}
	return ensureRole(ctx, db)
}

// superuser connects through the socket in the state directory, which needs no
// namespace.
func (l *Lab) superuser() (*sql.DB, error) { return l.openDatabase("postgres") }

func (l *Lab) openDatabase(name string) (*sql.DB, error) {
	return sql.Open("postgres", fmt.Sprintf("host=%s port=%d user=postgres dbname=%s sslmode=disable", l.pgDir(), PortPostgres, name))
}

func ensureRole(ctx context.Context, db *sql.DB) error {
	var have bool
	if err := db.QueryRowContext(ctx, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", DatabaseUser).Scan(&have); err != nil || have {
		return err
	}
	_, err := db.ExecContext(ctx, fmt.Sprintf("CREATE ROLE %s LOGIN CREATEDB PASSWORD %s", pq.QuoteIdentifier(DatabaseUser), pq.QuoteLiteral(Password)))
	return err
}

// DatabaseURL is a libpq URL of a database, for a program inside the namespace.
func (l *Lab) DatabaseURL(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(DatabaseUser, Password), Host: hostPort(PortPostgres),
		Path: "/" + database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// SocketDSN is a libpq connection string through Postgres's socket, for a program on
// this host that is not inside the namespace.
func (l *Lab) SocketDSN(database string) string {
	return fmt.Sprintf("host=%s port=%d user=%s password=%s dbname=%s sslmode=disable", l.pgDir(), PortPostgres, DatabaseUser, Password, database)
}

// CreateDatabase makes an empty database that DatabaseUser owns; one of that name is
// dropped first.
func (l *Lab) CreateDatabase(ctx context.Context, name string) error {
	db, err := l.superuser()
	if err != nil {
		return err
	}
	defer db.Close()
	for _, q := range []string{
		"DROP DATABASE IF EXISTS " + pq.QuoteIdentifier(name) + " WITH (FORCE)",
		"CREATE DATABASE " + pq.QuoteIdentifier(name) + " OWNER " + pq.QuoteIdentifier(DatabaseUser),
	} {
		if _, err := db.ExecContext(ctx, q); err != nil {
			return fmt.Errorf("create database %s: %w", name, err)
		}
	}
	return nil
}

// hasDatabase says whether a database exists.
func (l *Lab) hasDatabase(ctx context.Context, name string) (have bool, err error) {
	db, err := l.superuser()
	if err != nil {
		return false, err
	}
	defer db.Close()
	err = db.QueryRowContext(ctx, "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&have)
	return have, err
}
