package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func write(t *testing.T, content string) string {
	t.Helper()
	f := filepath.Join(t.TempDir(), "vmthunder.conf")
	if err := os.WriteFile(f, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestLoad(t *testing.T) {
	c, err := Load(write(t, `
[DEFAULT]
transport_url = rabbit://u:p%23x@10.0.0.1:5672,u:p@10.0.0.2:5672/vhost
osapi_volume_listen_port = 9999
[database]
connection = postgresql://cinder:se%23cret@db/cinder?application_name=a#b
[scheduler]
service_down_time = 2.5
[node]
origin = True
`))
	if err != nil {
		t.Fatal(err)
	}
	if c.ListenPort != 9999 || c.NodeDown != 2500*time.Millisecond || !c.Node.Origin || !c.Node.Compute {
		t.Errorf("port %d, down %s, origin %v, compute %v", c.ListenPort, c.NodeDown, c.Node.Origin, c.Node.Compute)
	}
	if c.Database != "postgresql://cinder:se%23cret@db/cinder?application_name=a#b" {
		t.Errorf("a # inside a value was taken for a comment: %q", c.Database)
	}
	if c.TransportURL != "rabbit://u:p%23x@10.0.0.1:5672,u:p@10.0.0.2:5672/vhost" {
		t.Errorf("transport_url %q", c.TransportURL)
	}
}

func TestRefused(t *testing.T) {
	for _, x := range []struct{ content, want string }{
		{"[DEFAULT]\ntransport_ulr = rabbit://x\n", "[DEFAULT] transport_ulr: no such option; did you mean transport_url?"},
		{"[DEFAULT]\nconnection = x\n", "did you mean section [database]?"},
		{"[nonsense]\na = b\n", "[nonsense] a: no such section"},
		{"[DEFAULT]\nosapi_volume_listen_port = 70000\n", `"70000" is not a whole number from 1 to 65535`},
		{"[DEFAULT]\nvolume_backend_name = ssd#1\n", `"ssd#1" must have no @, #, comma, slash or space in it`},
		{"[node]\ncache_driver = best\n", `"best" is not one of auto, bcache`},
		{"[node]\norigin = perhaps\n", `"perhaps" is neither true nor false`},
		{"[scheduler]\nservice_down_time = soon\n", `"soon" is not a number of seconds`},
		{"[DEFAULT]\npprof_listen = 0.0.0.0:6060\n", `"0.0.0.0:6060" is no loopback address with a port`},
		{"[DEFAULT]\npprof_listen = localhost\n", `"localhost" is no loopback address with a port`},
		{"[node]\ntarget_ip_address = here\n", `"here" is no IP address`},
	} {
		f := write(t, x.content)
		_, err := Load(f)
		if err == nil || !strings.Contains(err.Error(), x.want) || !strings.Contains(err.Error(), f) {
			t.Errorf("%q: error %v, want %q and the file's name", x.content, err, x.want)
		}
	}
}

func TestSecretNotInError(t *testing.T) {
	_, err := Load(write(t, "[DEFAULT]\ntransport_url = amqp://user:hunter2@host/\n[database]\nconnection = mysql://user:hunter2@host/db\n"))
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error %v: want one, without the password", err)
	}
	_, err = Load(write(t, "[keystone_authtoken]\npassword hunter2\n"))
	if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("error %v: want the line's number, not its text", err)
	}
}

func TestMissingFile(t *testing.T) {
	_, err := Load("/nowhere/vmthunder.conf")
	if err == nil || !strings.Contains(err.Error(), "/nowhere/vmthunder.conf is not there") {
		t.Errorf("error %v", err)
	}
}

// The sample in etc/ is the one that this code writes.
func TestSample(t *testing.T) {
	var b strings.Builder
	if err := Sample(&b); err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile("../../../etc/vmthunder/vmthunder.conf")
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != b.String() {
		t.Error("etc/vmthunder/vmthunder.conf is out of date: run `go run ./cmd/vmthunder config sample > etc/vmthunder/vmthunder.conf`")
	}
	if _, err := Load("../../../etc/vmthunder/vmthunder.conf"); err != nil {
		t.Error(err)
	}
}
