//go:build lab

package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// command runs a client's program as an account and returns what it printed, its errors too.
func (s *site) command(t *testing.T, account, program string, args ...string) (string, error) {
	t.Helper()
	cmd, err := s.lab.OpenStack(account, args...)
	if err != nil {
		t.Fatal(err)
	}
	if cmd.Path, err = exec.LookPath(program); err != nil {
		t.Fatal(err)
	}
	cmd.Args[0] = program
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	err = s.lab.RunInside(cmd)
	return out.String(), err
}

// What an administrator says of volume types holds for the users: the type of volumes that
// name none, who sees a private one, what hypervisors are told. A volume goes from one
// project to another. With a real Keystone, OpenStack's command, and Cinder's own for what
// that lacks.
func TestClientTypes(t *testing.T) {
	s := current(t)
	ctx := limit(t, 5*time.Minute)
	demo := s.c.Client(0, "demo", "demo")
	project, err := demo.Project(ctx)
	if err != nil {
		t.Fatal(err)
	}
	admin := func(out any, args ...string) { t.Helper(); s.openstack(t, "admin", out, args...) }
	types := func(args ...string) string {
		t.Helper()
		out, err := s.command(t, "admin", "/usr/bin/cinder", append([]string{"--os-volume-api-version", "3.62"}, args...)...)
		if err != nil {
			out = "failed: " + out
		}
		return out
	}
	var kind, plain struct{ ID, Name string }
	admin(&kind, "volume", "type", "create", "--private", "--project", project, "e2e-gold")
	admin(&plain, "volume", "type", "create", "--private", "e2e-secret")
	admin(nil, "volume", "qos", "create", "--consumer", "front-end", "--property", "total_iops_sec_per_gb=100", "e2e-fast")
	admin(nil, "volume", "qos", "associate", "e2e-fast", "e2e-gold")
	t.Cleanup(func() {
		types("default-type-unset", project)
		admin(nil, "volume", "qos", "disassociate", "--all", "e2e-fast")
		admin(nil, "volume", "qos", "delete", "e2e-fast")
		admin(nil, "volume", "type", "delete", "e2e-gold", "e2e-secret")
	})

	var seen []struct{ Name string }
	s.openstack(t, "demo", &seen, "volume", "type", "list")
	if names := fmt.Sprint(seen); !strings.Contains(names, "e2e-gold") || strings.Contains(names, "e2e-secret") {
		t.Errorf("demo sees %s", names)
	}

	// The default of a project, which has to exist.
	if out := types("default-type-set", "e2e-gold", project); !strings.Contains(out, kind.ID) {
		t.Fatalf("default-type-set: %s", out)
	}
	if out := types("default-type-list"); !strings.Contains(out, project) {
		t.Errorf("default-type-list: %s", out)
	}
	const nobody = "0123456789abcdef0123456789abcdef"
	if out := types("default-type-set", "e2e-gold", nobody); !strings.Contains(out, "Project with id "+nobody+" not found.") {
		t.Errorf("default-type-set for nobody: %s", out)
	}
	if out := types("type-delete", "e2e-gold"); !strings.Contains(out, "is a default volume type and cannot be deleted") {
		t.Errorf("type-delete: %s", out)
	}
	var v struct{ ID, Type string }
	s.openstack(t, "demo", &v, "volume", "create", "--size", "3", "e2e-gift")
	if v.Type != "e2e-gold" {
		t.Errorf("demo's volume has type %s", v.Type)
	}
	if _, err := s.admin.WaitVolume(ctx, v.ID, "available", time.Minute); err != nil {
		t.Fatal(err)
	}

	// It changes hands.
	var offer struct {
		ID      string
		AuthKey string `json:"auth_key"`
	}
	s.openstack(t, "demo", &offer, "volume", "transfer", "request", "create", "e2e-gift")
	if out, err := s.command(t, "admin", "/usr/bin/openstack", "volume", "transfer", "request", "accept", "--auth-key", "0"+offer.AuthKey, offer.ID); err == nil ||
		!strings.Contains(out, "invalid auth key") {
		t.Errorf("with another key: %v: %s", err, out)
	}
	admin(nil, "volume", "transfer", "request", "accept", "--auth-key", offer.AuthKey, offer.ID)
	var volumes []struct{ ID string }
	s.openstack(t, "demo", &volumes, "volume", "list")
	if len(volumes) != 0 {
		t.Errorf("demo still has %v", volumes)
	}
	admin(&volumes, "volume", "list")
	if len(volumes) != 1 || volumes[0].ID != v.ID {
		t.Errorf("admin has %v", volumes)
	}

	// Hypervisors are told what its type says, for its size.
	a, err := s.nova.Attach(ctx, v.ID, "node1", "")
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(a.ConnectionInfo["qos_specs"]); got != "map[total_iops_sec:300]" {
		t.Errorf("qos_specs %s", got)
	}
	if err := s.nova.Detach(ctx, a.ID); err != nil {
		t.Fatal(err)
	}
	if err := s.admin.DeleteVolume(ctx, v.ID); err != nil {
		t.Fatal(err)
	}
	if err := s.admin.WaitGone(ctx, v.ID, time.Minute); err != nil {
		t.Fatal(err)
	}
	s.tooLarge(t, ctx)
}

// tooLarge makes a volume that no pool holds: its owner is told, and which request it was.
func (s *site) tooLarge(t *testing.T, ctx context.Context) {
	t.Helper()
	var v struct{ ID string }
	s.openstack(t, "demo", &v, "volume", "create", "--size", "900", "e2e-huge")
	if _, err := s.admin.WaitVolume(ctx, v.ID, "error", time.Minute); err != nil {
		t.Fatal(err)
	}
	var messages []map[string]string
	s.openstack(t, "demo", &messages, "--os-volume-api-version", "3.3", "volume", "message", "list")
	found := false
	for _, m := range messages {
		if m["Resource UUID"] != v.ID {
			continue
		}
		found = true
		if m["Event ID"] != "VOLUME_VOLUME_001_003" || !strings.HasPrefix(m["Request ID"], "req-") ||
			!strings.HasPrefix(m["User Message"], "schedule allocate volume:Could not find any available weighted backend. (900 GiB") {
			t.Errorf("%v", m)
		}
		s.openstack(t, "demo", nil, "--os-volume-api-version", "3.3", "volume", "message", "delete", m["ID"])
	}
	if !found {
		t.Errorf("no message about %s: %v", v.ID, messages)
	}
	s.openstack(t, "demo", nil, "volume", "delete", v.ID)
	if err := s.admin.WaitGone(ctx, v.ID, time.Minute); err != nil {
		t.Fatal(err)
	}
}
