//go:build lab

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/devstack/lab"
)

// TestFaultConfiguration: a mistake in the configuration ends a program at once, with a
// status that tells it from a failure at work, names file, section and option, and shows no
// secret.
func TestFaultConfiguration(t *testing.T) {
	f := newFaults(t)
	const database = "e2e-empty"
	if err := f.lab.CreateDatabase(limit(t, time.Minute), database); err != nil {
		t.Fatal(err)
	}
	rest := fmt.Sprintf("[keystone_authtoken]\nauth_url = %s\nusername = vmthunder\npassword = sesame-k\n", f.lab.KeystoneURL())
	empty := "[database]\nconnection = " + f.lab.DatabaseURL(database) + "\n" + rest
	const api, node = "vmthunder-api", "vmthunder-node"
	for _, c := range []struct {
		name, program, text string
		code                int
		words               []string
	}{
		{"unknown option", api, "[DEFAULT]\ntrasnport_url = rabbit://a:sesame@h/\n", 2, []string{"FILE: [DEFAULT] trasnport_url: no such option; did you mean transport_url?"}},
		{"unknown section", api, "[sheduler]\nwhatever = 2\n", 2, []string{"FILE: [sheduler] whatever: no such section"}},
		{"another section's option", api, "[DEFAULT]\npool_device = /dev/sda\n", 2, []string{"FILE: [DEFAULT] pool_device: no such option here; did you mean section [node]?"}},
		{"two bad values", api, "[DEFAULT]\nosapi_volume_listen_port = 99999\n[scheduler]\ntree_degree = two\n", 2, []string{
			`FILE: [DEFAULT] osapi_volume_listen_port: "99999" is not a whole number from 1 to 65535`, `FILE: [scheduler] tree_degree: "two" is not a whole number from 1 to 1000`,
		}},
		{"no assignment", api, "[keystone_authtoken]\nusername = u\npassword sesame\n", 2, []string{"FILE", "line 3"}},
		{"no file", api, "", 2, []string{"FILE is not there"}},
		{"bus of another kind", api, "[DEFAULT]\ntransport_url = http://a:sesame@h/\n", 2, []string{"FILE: [DEFAULT] transport_url: must be a URL that begins with rabbit://"}},
		{"bus at no port", api, "[DEFAULT]\ntransport_url = rabbit://a:sesame@h:port/\n" + empty, 2, []string{"[DEFAULT] transport_url"}},
		{"database of another kind", api, "[database]\nconnection = mysql://a:sesame@h/d\n", 2, []string{"FILE: [database] connection: must be a URL that begins with postgresql://"}},
		{"database that is no URL", api, "[database]\nconnection = postgresql://a:sesame%zz@h/d\n", 2, []string{"FILE: [database] connection: is no valid URL"}},
		{"no database", api, rest, 2, []string{"[database] connection is not set"}},
		{"database that is not there", api, "[database]\nconnection = " + f.lab.DatabaseURL("nothing") + "\n" + rest, 1, []string{"[database] connection", `"nothing" does not exist`}},
		{"database without schema", api, empty, 1, []string{"run vmthunder db sync"}},
		{"no pool device", node, "[node]\ncompute = true\n", 2, []string{"[node] pool_device is not set"}},
		{"unknown cache", node, "[node]\npool_device = /dev/none\ncache_driver = magic\n", 2, []string{`FILE: [node] cache_driver: "magic" is not one of auto, bcache, dm-cache, flashcache, none`}},
		{"bus at no port", node, "[DEFAULT]\ntransport_url = rabbit://a:sesame@h:port/\nmy_ip = 10.77.0.1\n[node]\ncompute = false\n", 2, []string{"[DEFAULT] transport_url"}},
	} {
		t.Run(c.program+" "+c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "vmthunder.conf")
			if c.text != "" {
				if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.CommandContext(limit(t, time.Minute), f.c.Program(c.program), "--config-file", path)
			if c.program == api {
				cmd.Args = append(cmd.Args, "--port", "18776")
			}
			b, err := cmd.CombinedOutput()
			out := string(b)
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != c.code {
				t.Errorf("%v, wanted exit status %d", err, c.code)
			}
			for _, w := range c.words {
				if w = strings.ReplaceAll(w, "FILE", path); !strings.Contains(out, w) {
					t.Errorf("the output does not say %q", w)
				}
			}
			for _, secret := range []string{"sesame", lab.Password} {
				if strings.Contains(out, secret) {
					t.Errorf("the output shows a password")
				}
			}
			if t.Failed() {
				t.Logf("output:\n%s", out)
			}
		})
	}
}
