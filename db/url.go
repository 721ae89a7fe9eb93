package db

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/lib/pq"
)

// alchemyOnly are parameters that SQLAlchemy, psycopg2 or oslo.db take from a URL and
// a PostgreSQL server would refuse as settings it does not know.
var alchemyOnly = [...]string{
	"charset", "use_unicode", "plugin", "client_encoding", "executemany_mode", "keepalives",
	"keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout", "gssencmode", "channel_binding", "async_fallback",
}

var word = regexp.MustCompile(`^[a-z]{1,20}$`)

var keywordSSL = regexp.MustCompile(`(^|\s)sslmode\s*=`)

// Config reads a connection string: an oslo.db (SQLAlchemy) URL like
// postgresql+psycopg2://user:password@host/name?param=value, a libpq URL, or libpq's
// key=value words. As with libpq, PG… variables of the environment fill what it leaves out.
//
// sslmode, where nobody gives one, is "disable" on a unix socket or a loopback address and
// "prefer" otherwise, which is what libpq, and so the Python services beside us, do:
// encryption if the server has it, without a check of its certificate. Give
// sslmode=verify-full to be safe from an impostor.
//
// Every connection says who it is (application_name), has timeouts for connecting and for
// statements, and speaks UTC. No error holds the password.
func Config(connection string, opts Options) (pq.Config, error) {
	opts = opts.withDefaults()
	dsn, given, err := plain(strings.TrimSpace(connection))
	if err != nil {
		return pq.Config{}, err
	}
	cfg, err := pq.NewConfig(dsn)
	if err != nil {
		// The driver's words repeat parts of the string, which may be the password.
		return pq.Config{}, errors.New("database connection: not understood; it must be postgresql://user:password@host/name?param=value " +
			"or host=… user=… password=… dbname=…, with parameters (and PG… environment variables) that libpq knows")
	}
	if !given && os.Getenv("PGSSLMODE") == "" && cfg.SSLRootCert != "system" {
		cfg.SSLMode = pq.SSLModePrefer
		if local(cfg) {
			cfg.SSLMode = pq.SSLModeDisable
		}
	}
	if cfg.ApplicationName == "" {
		cfg.ApplicationName = opts.ApplicationName
	}
	// A statement with arguments goes over in one message instead of two with an answer
	// between them; it is still planned for its arguments.
	cfg.BinaryParameters = true
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = opts.ConnectTimeout
	}
	runtime := map[string]string{
		"timezone":          "UTC",
		"statement_timeout": strconv.FormatInt(opts.StatementTimeout.Milliseconds(), 10),
		// A replica that is stopped in the middle of a transaction must not keep its locks.
		"idle_in_transaction_session_timeout": strconv.FormatInt(2*opts.StatementTimeout.Milliseconds(), 10),
	}
	for k, v := range cfg.Runtime {
		if k != "timezone" {
			runtime[k] = v
		}
	}
	cfg.Runtime = runtime
	return cfg, nil
}

// plain turns an SQLAlchemy URL into one that lib/pq reads, and tells whether the
// connection string has an sslmode.
func plain(connection string) (dsn string, hasSSLMode bool, err error) {
	scheme, rest, isURL := strings.Cut(connection, "://")
	if !isURL {
		if connection == "" {
			return "", false, errors.New("database connection: empty; give [database] connection = postgresql://user:password@host/name")
		}
		return connection, keywordSSL.MatchString(connection), nil
	}
	dialect, _, _ := strings.Cut(scheme, "+")
	if dialect != "postgresql" && dialect != "postgres" {
		if !word.MatchString(dialect) {
			dialect = "this" // not a dialect at all; who knows what it holds
		}
		return "", false, fmt.Errorf("database connection: %q is not supported, only postgresql", dialect)
	}
	u, err := url.Parse("postgresql://" + rest)
	if err != nil {
		// url.Error repeats the whole URL, password included.
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err
		}
		return "", false, fmt.Errorf("database connection: not a valid URL (%s; special characters in a password must be written %%XX)", reason(err))
	}
	q := u.Query()
	for _, k := range alchemyOnly {
		q.Del(k)
	}
	u.RawQuery = q.Encode()
	return u.String(), q.Has("sslmode"), nil
}

// reason names what is wrong with a URL without repeating any of it.
func reason(err error) string {
	var esc url.EscapeError
	switch {
	case errors.As(err, &esc):
		return "bad % escape"
	case strings.Contains(err.Error(), "port"):
		return "bad port"
	}
	return "malformed"
}

func local(cfg pq.Config) bool {
	hosts := []string{cfg.Host}
	if cfg.Hostaddr.IsValid() {
		hosts[0] = cfg.Hostaddr.String()
	}
	for _, m := range cfg.Multi {
		hosts = append(hosts, m.Host)
	}
	for _, h := range hosts {
		ip := net.ParseIP(h)
		if h != "localhost" && !filepath.IsAbs(h) && !strings.HasPrefix(h, "@") && (ip == nil || !ip.IsLoopback()) {
			return false
		}
	}
	return true
}
