package policy_test

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vmthunder/vmthunder/api/keystone"
	"github.com/vmthunder/vmthunder/api/policy"
)

func lines(t *testing.T, file string) []string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			out = append(out, line)
		}
	}
	return out
}

// TestRulesAreCinders: names, checks, older defaults and older names are those of Cinder 21
// (testdata was written by cinder.policies.list_rules()).
func TestRulesAreCinders(t *testing.T) {
	var have []string
	for _, r := range append(policy.Aliases(), policy.Rules()...) {
		if !strings.HasPrefix(r.Name, "vmthunder:") {
			have = append(have, fmt.Sprintf("%s | %s | %s | %s", r.Name, r.Check, or(r.Old, "-"), or(r.Was, "-")))
		}
	}
	want := lines(t, "testdata/cinder_rules.txt")
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		for i := range want {
			if i < len(have) && have[i] != want[i] {
				t.Fatalf("have %s\nwant %s", have[i], want[i])
			}
		}
		t.Fatalf("%d rules, Cinder has %d", len(have), len(want))
	}
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// TestVerdicts compares every rule and caller with what oslo.policy itself says.
func TestVerdicts(t *testing.T) {
	const a, b = "aaaa", "bbbb"
	callers := []keystone.Identity{
		{UserID: "admin", ProjectID: b, Roles: []string{"admin", "member", "reader"}},
		{UserID: "m", ProjectID: a, Roles: []string{"member", "reader"}},
		{UserID: "r", ProjectID: a, Roles: []string{"reader"}},
		{UserID: "n", ProjectID: a},
		{UserID: "bm", ProjectID: b, Roles: []string{"member", "reader"}},
		{UserID: "br", ProjectID: b, Roles: []string{"reader"}},
		{UserID: "root", Roles: []string{"admin"}, SystemScope: "all"},
	}
	for column, newer := range []bool{false, true} {
		e, err := policy.New(policy.Options{NewDefaults: newer})
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range lines(t, "testdata/verdicts.txt") {
			f := strings.Fields(line)
			got := ""
			for _, id := range callers {
				id.Admin = e.Admin(id)
				got += map[bool]string{true: "y", false: "n"}[e.Allowed(id, f[0], policy.Target{ProjectID: a, UserID: "m"})]
			}
			if got != f[1+column] {
				t.Errorf("%s, enforce_new_defaults %v: %s, oslo.policy says %s", f[0], newer, got, f[1+column])
			}
		}
	}
}

// TestSample: the sample in etc/ is the one that this code writes. As it is it changes
// nothing, and every rule in it can be uncommented.
func TestSample(t *testing.T) {
	var b bytes.Buffer
	if err := policy.Sample(&b); err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile("../../etc/vmthunder/policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, b.Bytes()) {
		t.Error("etc/vmthunder/policy.yaml is out of date: run `go run ./cmd/vmthunder policy sample > etc/vmthunder/policy.yaml`")
	}
	if o, err := policy.Load("../../etc/vmthunder/policy.yaml"); err != nil || len(o) != 0 {
		t.Errorf("the sample as it is: %v %v", o, err)
	}
	uncommented := strings.ReplaceAll(b.String(), `#"`, `"`)
	all, err := policy.Read([]byte(uncommented), "sample")
	if err != nil || len(all) != len(policy.Rules())+len(policy.Aliases()) {
		t.Fatalf("%d rules in the sample: %v", len(all), err)
	}
	if _, err := policy.New(policy.Options{Overrides: all}); err != nil {
		t.Error(err)
	}
}
