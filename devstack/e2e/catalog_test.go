//go:build lab

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/devstack/lab"
)

// The operator's command registers the service in a real Keystone, in a region and with a
// user of their own.
func TestCatalog(t *testing.T) {
	l, err := lab.FromEnv()
	if err != nil {
		t.Fatal(err)
	}
	id := uuid.NewString()[:8]
	region, user, dir := "region-"+id, "user-"+id, t.TempDir()
	program := filepath.Join(dir, "vmthunder")
	build := exec.CommandContext(limit(t, 3*time.Minute), "go", "build", "-o", program, "github.com/vmthunder/vmthunder/cmd/vmthunder")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	conf := filepath.Join(dir, "vmthunder.conf")
	text := fmt.Sprintf("[DEFAULT]\npublic_endpoint = http://volumes.example:8776\n[keystone_authtoken]\nauth_url = %s\nusername = %s\npassword = %s\nregion_name = %s\n",
		l.KeystoneURL(), user, lab.Password, region)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	// catalog returns the rows as ACTION KIND NAME VALUE.
	catalog := func(args ...string) []string {
		t.Helper()
		cmd := exec.CommandContext(limit(t, time.Minute), program, append([]string{"--config-file", conf, "catalog", "-o", "json"}, args...)...)
		cmd.Env = append([]string{"PATH=/usr/bin:/bin"}, l.OpenStackEnv("admin")...)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		var rows []struct{ Action, Kind, Name, Value, Before string }
		if err := json.Unmarshal(out, &rows); err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, r := range rows {
			lines = append(lines, strings.TrimRight(strings.Join([]string{r.Action, r.Kind, r.Name, r.Value, r.Before}, " "), " "))
		}
		return lines
	}
	check := func(what string, got, want []string) {
		t.Helper()
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", what, d)
		}
	}
	rows := func(action, before string, urls ...string) []string {
		user := "keep"
		if action == "create" {
			user = "create"
		}
		out := []string{
			"keep project service", user + " user USER",
			"keep role service", user + " grant service to USER in project service",
			"keep role admin", user + " grant admin to USER in project service",
		}
		for _, s := range [][2]string{{"volumev3", "cinderv3"}, {"block-storage", "cinder"}} {
			out = append(out, "keep service "+s[0]+" "+s[1])
			for i, iface := range []string{"public", "internal", "admin"} {
				out = append(out, strings.TrimRight(fmt.Sprintf("%s endpoint %s %s %s %s/v3/%%(project_id)s %s", action, s[0], iface, region, urls[i%len(urls)], before), " "))
			}
		}
		for i := range out {
			out[i] = strings.ReplaceAll(out[i], "USER", "user-"+id)
		}
		return out
	}
	const first, second = "http://volumes.example:8776", "https://volumes.example"
	check("what would be made", catalog(), rows("create", "", first))
	check("nothing has been made", catalog(), rows("create", "", first))
	if _, err := l.Token(limit(t, time.Minute), user, "service"); err == nil {
		t.Error("the user has been made")
	}
	check("made", catalog("--apply"), rows("create", "", first))
	check("made once", catalog("--apply"), rows("keep", "", first))
	if _, err := l.Token(limit(t, time.Minute), user, "service"); err != nil {
		t.Errorf("the new user: %v", err)
	}
	old := first + "/v3/%(project_id)s"
	check("another URL", catalog("--url", second, "--apply"), rows("change", old, second))
	check("different URLs", catalog("--url", second, "--internal-url", second, "--admin-url", second+"/v3"), rows("keep", "", second))

	cmd, err := l.OpenStack("admin", "endpoint", "list", "--region", region, "-f", "value", "-c", "Service Name", "-c", "Service Type", "-c", "Enabled", "-c", "Interface", "-c", "URL")
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"cinderv3 volumev3 True public", "cinderv3 volumev3 True admin", "cinder block-storage True internal"} {
		if !strings.Contains(string(out), want+" "+second+"/v3/%(project_id)s\n") {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if n := strings.Count(string(out), "\n"); n != 6 {
		t.Errorf("%d endpoints:\n%s", n, out)
	}
}
