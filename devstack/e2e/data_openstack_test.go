//go:build lab

package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/devstack/lab"
)

// OpenStack's own command against the product, as a user and as the administrator.
func TestDataOpenStackCommand(t *testing.T) {
	s := current(t)
	demo := func(out any, args ...string) { t.Helper(); s.openstack(t, "demo", out, args...) }

	var v struct {
		ID, Name, Status, Type, Bootable string
		Size                             int
	}
	demo(&v, "volume", "create", "--image", lab.ImageRaw, "--size", "1", "--description", "a test", "cli-1")
	id := v.ID
	if _, err := s.admin.WaitVolume(limit(t, 2*time.Minute), id, "available", 90*time.Second); err != nil {
		t.Fatal(err)
	}
	demo(&v, "volume", "show", "cli-1")
	if v.ID != id || v.Size != 1 || v.Status != "available" || v.Bootable != "true" || v.Type != "__DEFAULT__" {
		t.Errorf("volume show: %+v", v)
	}
	demo(nil, "volume", "set", "--name", "cli-2", "--property", "colour=red", id)
	var list []struct{ ID, Name, Status string }
	demo(&list, "volume", "list")
	if len(list) != 1 || list[0].ID != id || list[0].Name != "cli-2" {
		t.Errorf("volume list: %+v", list)
	}
	// "openstack limits show" and "quota show" ask Nova first, which the laboratory has not.
	var limits struct {
		Limits struct{ Absolute map[string]int }
	}
	if err := s.c.Client(0, "demo", "demo").Do(limit(t, time.Minute), "GET", "/limits", nil, &limits); err != nil {
		t.Fatal(err)
	}
	if used := limits.Limits.Absolute; used["totalVolumesUsed"] != 1 || used["totalGigabytesUsed"] != 1 || used["maxTotalVolumes"] != 1000 {
		t.Errorf("limits: %v", used)
	}
	var zones []map[string]string
	demo(&zones, "availability", "zone", "list", "--volume")
	if len(zones) != 1 || zones[0]["Zone Name"] != "nova" || zones[0]["Zone Status"] != "available" {
		t.Errorf("availability zones: %v", zones)
	}
	var types []struct{ Name string }
	demo(&types, "volume", "type", "list")
	if len(types) != 1 || types[0].Name != "__DEFAULT__" {
		t.Errorf("volume types: %v", types)
	}
	var services []struct{ Binary, Host, Status, State string }
	s.openstack(t, "admin", &services, "volume", "service", "list")
	var up []string
	for _, x := range services {
		if x.State == "up" && x.Status == "enabled" {
			up = append(up, x.Binary)
		}
	}
	slices.Sort(up)
	if n := slices.Compact(slices.Clone(up)); !slices.Contains(n, "cinder-scheduler") || !slices.Contains(n, "cinder-volume") || len(up) != len(services) {
		t.Errorf("volume services: %+v", services)
	}
	var all []map[string]any
	s.openstack(t, "admin", &all, "volume", "list", "--all-projects", "--long")
	if len(all) != 1 || all[0]["ID"] != id {
		t.Errorf("volume list of all projects: %v", all)
	}
	demo(nil, "volume", "delete", id)
	if err := s.admin.WaitGone(limit(t, time.Minute), id, 30*time.Second); err != nil {
		t.Fatal(err)
	}
}

// openstack runs the command for an account; out, if not nil, gets its JSON.
func (s *site) openstack(t *testing.T, account string, out any, args ...string) {
	t.Helper()
	if out != nil {
		args = append(args, "-f", "json")
	}
	cmd, err := s.lab.OpenStack(account, args...)
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := s.lab.RunInside(cmd); err != nil {
		t.Fatalf("openstack %s: %v: %s", strings.Join(args, " "), err, stderr.String())
	}
	if out == nil {
		return
	}
	if err := json.Unmarshal([]byte(stdout.String()), out); err != nil {
		t.Fatalf("openstack %s: %v: %.400s", strings.Join(args, " "), err, stdout.String())
	}
}

// A virtual machine boots from a volume, counts its boot on it, and is booted once more after
// the volume was detached and attached again: what it wrote is there.
func TestDataBootTwice(t *testing.T) {
	s := current(t)
	img, err := s.lab.BootImage(limit(t, time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	id, err := s.lab.UploadImage(limit(t, time.Minute), lab.ImageRaw, "raw", img.Raw)
	if err != nil {
		t.Fatal(err)
	}
	x := s.newAttached(t, id, vmhost)
	for i := 1; i <= 2; i++ {
		serial := fmt.Sprint("boot-", x.volume[:8])
		b, err := lab.BootVM(limit(t, 4*time.Minute), s.node(t, vmhost), x.device, serial, 3*time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("boot %d took %.1f s", i, b.Duration.Seconds())
		if b.ID != serial || b.Count != i {
			t.Errorf("boot %d: the machine says %s, boot %d", i, b.ID, b.Count)
		}
		if i == 1 {
			s.detach(t, x)
			x = s.attach(t, x.volume, vmhost)
		}
	}
	s.drop(t, x)
}
