package lab

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
)

const keystoneConf = `[DEFAULT]
[database]
connection = %[1]s
max_pool_size = 5
max_overflow = 20
[cache]
enabled = true
backend = dogpile.cache.pymemcache
memcache_servers = 127.0.0.1:%[2]d
[token]
provider = fernet
expiration = 14400
[identity]
# The cheapest hash: nothing here is worth guarding, and it is computed per login.
password_hash_rounds = 4
[fernet_tokens]
key_repository = %[3]s/fernet-keys
[fernet_receipts]
key_repository = %[3]s/fernet-keys
[credential]
key_repository = %[3]s/credential-keys
[oslo_middleware]
enable_proxy_headers_parsing = true
`

// uwsgiConf follows Debian's own /etc/keystone/keystone-uwsgi.ini, but for lazy-apps: one
// import for all workers halves the start (not for Nova, which connects as it starts). The chunked-input setting is understood in a
// file only, not on the command line.
const uwsgiConf = `[uwsgi]
plugins = python3
http-socket = 0.0.0.0:%[1]d
wsgi-file = %[2]s
processes = %[3]d
threads = 1
master = true
lazy-apps = %[5]t
thunder-lock = true
enable-threads = true
die-on-term = true
no-orphans = true
need-app = true
worker-reload-mercy = 3
buffer-size = 65535
listen = 100
socket-timeout = 60
wsgi-manage-chunked-input = true
add-header = Connection: close
procname-prefix-spaced = %[4]s
`

// workers of a service's API.
func workers(s Service) int {
	if s == Cinder {
		return 4
	}
	return 2
}

func (l *Lab) keystoneDir() string      { return filepath.Join(l.dir, "keystone") }
func (l *Lab) keystoneConfPath() string { return filepath.Join(l.keystoneDir(), "keystone.conf") }

// sqlalchemyURL is a database's URL in the spelling of the Python services.
func sqlalchemyURL(database string) string {
	return fmt.Sprintf("postgresql+psycopg2://%s:%s@127.0.0.1:%d/%s", DatabaseUser, Password, PortPostgres, database)
}

// python runs one of the services' management programs inside the namespace.
func (l *Lab) python(ctx context.Context, log string, argv ...string) error {
	f, err := os.OpenFile(l.LogPath(log), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644) //nolint:gosec // a log for people
	if err != nil {
		return err
	}
	defer f.Close()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env, cmd.Dir = cleanEnv(filepath.Join(l.dir, "home"), "PYTHONWARNINGS=ignore"), "/"
	cmd.Stdout, cmd.Stderr = f, f
	if err := l.RunInside(cmd); err != nil {
		return fmt.Errorf("%s %s: %w%s", filepath.Base(argv[0]), argv[len(argv)-1], err, tail(f.Name()))
	}
	return nil
}

func (l *Lab) writeKeystoneConf() error {
	if err := os.MkdirAll(l.keystoneDir(), 0o700); err != nil {
		return err
	}
	conf := fmt.Sprintf(keystoneConf, sqlalchemyURL("keystone"), PortMemcached, l.keystoneDir())
	return os.WriteFile(l.keystoneConfPath(), []byte(conf), 0o600)
}

// fernetKeys writes a key repository as keystone-manage fernet_setup does: key 0 is
// staged, the highest is primary, each 32 random bytes in URL-safe base64
// (docs.openstack.org/keystone, "Fernet - Frequently Asked Questions").
func fernetKeys(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "0")); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for i := range 2 {
		var key [32]byte
		_, _ = rand.Read(key[:]) // never fails, says crypto/rand
		text := base64.URLEncoding.EncodeToString(key[:])
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// initKeystone makes database, keys, the administrator and the identity endpoint,
// unless they are there.
func (l *Lab) initKeystone(ctx context.Context) error {
	have, err := l.hasDatabase(ctx, "keystone")
	if err != nil || have {
		return err
	}
	l.progress("keystone: making its database")
	for _, d := range []string{"fernet-keys", "credential-keys"} {
		if err := fernetKeys(filepath.Join(l.keystoneDir(), d)); err != nil {
			return err
		}
	}
	if err := l.CreateDatabase(ctx, "keystone"); err != nil {
		return err
	}
	manage := []string{"/usr/bin/keystone-manage", "--config-file", l.keystoneConfPath()}
	if err := l.python(ctx, "keystone-manage", append(slices.Clip(manage), "db_sync")...); err != nil {
		return err
	}
	u := l.KeystoneURL()
	// The password is the laboratory's constant, known to everybody: an argument is no leak.
	return l.python(ctx, "keystone-manage", append(slices.Clip(manage), "bootstrap", "--bootstrap-password", Password,
		"--bootstrap-region-id", Region, "--bootstrap-public-url", u, "--bootstrap-internal-url", u, "--bootstrap-admin-url", u)...)
}

func (l *Lab) startKeystone(ctx context.Context) error {
	if err := l.writeKeystoneConf(); err != nil {
		return err
	}
	if err := l.initKeystone(ctx); err != nil {
		return err
	}
	return l.startUWSGI(ctx, Keystone, PortKeystone, "/usr/bin/keystone-wsgi-public", "/v3", "OS_KEYSTONE_CONFIG_FILES="+l.keystoneConfPath())
}

func (l *Lab) startUWSGI(ctx context.Context, s Service, port int, wsgi, probe string, env ...string) error {
	ini := filepath.Join(l.dir, "run", string(s)+"-uwsgi.ini")
	text := fmt.Sprintf(uwsgiConf, port, wsgi, workers(s), s, s == Nova)
	if err := os.WriteFile(ini, []byte(text), 0o644); err != nil {
		return err
	}
	p, err := l.startProc(spec{
		name: string(s), argv: []string{"uwsgi-core", "--ini", ini}, dir: "/",
		env: cleanEnv(filepath.Join(l.dir, "home"), append(env, "PYTHONWARNINGS=ignore")...), log: l.LogPath(string(s)),
	})
	if err != nil {
		return err
	}
	client := l.HTTPClient()
	return ready(ctx, p, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+hostPort(port)+probe, http.NoBody)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode >= http.StatusInternalServerError {
			return fmt.Errorf("GET %s: %s", req.URL, resp.Status)
		}
		return nil
	})
}

// HTTPClient reaches the laboratory's servers from anywhere. It keeps no connections.
func (l *Lab) HTTPClient() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: l.DialContext, DisableKeepAlives: true}}
}
