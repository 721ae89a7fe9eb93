package transport

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseURL(t *testing.T) {
	for _, c := range []struct {
		url   string
		vhost string
		hosts []Host
	}{
		{"rabbit://u:p@h:5673/", "/", []Host{{"u", "p", "h", 5673}}},
		{"rabbit://u:p@h", "/", []Host{{"u", "p", "h", 5672}}},
		{"rabbit://u:p@h//", "/", []Host{{"u", "p", "h", 5672}}},
		{"rabbit://u:p@h/%2F", "/", []Host{{"u", "p", "h", 5672}}},
		{"rabbit://u:p@h/nova%20x?ssl=1", "nova x", []Host{{"u", "p", "h", 5672}}},
		{"kombu://h1,h2:1/v", "v", []Host{{"guest", "guest", "h1", 5672}, {"guest", "guest", "h2", 1}}},
		{"rabbit://u:a%40b%2f%3Ac@h1:1,u2@x:p%25@h2/v", "v", []Host{{"u", "a@b/:c", "h1", 1}, {"u2@x", "p%", "h2", 5672}}},
		{"rabbit://u:p%zz@[fd00::1]:99,u:p@[::1]/v", "v", []Host{{"u", "p%zz", "fd00::1", 99}, {"u", "p", "::1", 5672}}},
	} {
		u, err := ParseURL(c.url)
		if err != nil {
			t.Errorf("%s: %v", c.url, err)
			continue
		}
		if d := cmp.Diff(c.hosts, u.Hosts); d != "" || u.VHost != c.vhost {
			t.Errorf("%s: vhost %q, %s", c.url, u.VHost, d)
		}
	}
	for _, bad := range []string{
		"", "u:sesame@h/", "amqp://u:sesame@h/", "rabbit:///v", "rabbit://u:sesame@/v", "rabbit://u:sesame@h:x/",
		"rabbit://u:sesame@h:0/", "rabbit://u:sesame@h:70000/", "rabbit://u:sesame@[::1/", "rabbit://u:sesame@[::1]x/",
		"rabbit://u:sesame@h/?a=%zz",
	} {
		_, err := ParseURL(bad)
		if err == nil || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestURLHidesPasswords(t *testing.T) {
	u, err := ParseURL("rabbit://user:sesame@h1:1,user:sesame@h2/a/b?ssl=1")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{fmt.Sprint(u), fmt.Sprintf("%+v %#v", u, u), fmt.Sprintf("%v %#v", u.Hosts, u.Hosts)} {
		if strings.Contains(s, "sesame") {
			t.Error(s)
		}
	}
	if u.String() != "rabbit://h1:1,h2:5672/a%2Fb" {
		t.Error(u.String())
	}
}

func TestOptions(t *testing.T) {
	get := func(query string) (Options, error) {
		u, err := ParseURL("rabbit://h/?" + query)
		if err != nil {
			t.Fatal(err)
		}
		return Options{}.withDefaults(u)
	}
	o, err := get("")
	if err != nil || o.TLS != nil || o.Heartbeat != time.Minute || o.HeartbeatRate != 2 || o.RetryMax != 30*time.Second {
		t.Errorf("%+v, %v", o, err)
	}
	o, err = get("ssl=True&heartbeat_timeout_threshold=0&heartbeat_rate=3")
	if err != nil || o.TLS == nil || o.TLS.MinVersion != tls.VersionTLS12 || o.Heartbeat >= 0 || o.HeartbeatRate != 3 {
		t.Errorf("%+v, %v", o, err)
	}
	if o, err := get("ssl=0"); err != nil || o.TLS != nil {
		t.Errorf("%+v, %v", o, err)
	}
	empty := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(empty, []byte("none"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"heartbeat_rate=0", "heartbeat_timeout_threshold=x", "ssl=1&ssl_ca_file=/nowhere", "ssl=1&ssl_ca_file=" + empty, "ssl=1&ssl_cert_file=/nowhere"} {
		if _, err := get(bad); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

func TestAMQPLAIN(t *testing.T) {
	want := "\x05LOGINS\x00\x00\x00\x01u\x08PASSWORDS\x00\x00\x00\x02pw"
	if got := (amqplain{"u", "pw"}).Response(); got != want {
		t.Errorf("%q", got)
	}
	if a := sasl(Host{User: "u", Password: "pw"}); a[0].Mechanism() != "AMQPLAIN" || a[1].Mechanism() != "PLAIN" {
		t.Error("order")
	}
}

func TestBackoff(t *testing.T) {
	b := &Bus{opts: Options{RetryMin: time.Second, RetryMax: 30 * time.Second}}
	for n, top := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		for range 50 {
			if d := b.backoff(n); d < top*time.Second/2 || d > top*time.Second {
				t.Fatalf("%d: %s", n, d)
			}
		}
	}
	if d := b.backoff(1000); d > 30*time.Second || d <= 0 {
		t.Fatal(d)
	}
}

func FuzzParseURL(f *testing.F) {
	f.Add("rabbit://u:p%40@h:1,[::1]:2/v%2f?ssl=1#x")
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseURL(s)
		if err != nil {
			return
		}
		for _, h := range u.Hosts {
			if h.Name == "" || h.Port < 1 || h.Port > 65535 || h.User == "" {
				t.Fatalf("%q gives %+v", s, u)
			}
		}
	})
}
