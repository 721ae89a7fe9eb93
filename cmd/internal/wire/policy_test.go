package wire_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmthunder/vmthunder/api/keystone"
	"github.com/vmthunder/vmthunder/api/policy"
	"github.com/vmthunder/vmthunder/cmd/internal/config"
	"github.com/vmthunder/vmthunder/cmd/internal/wire"
)

func TestPolicyFile(t *testing.T) {
	dir := t.TempDir()
	file := func(content string) *config.Config {
		path := filepath.Join(t.TempDir(), "policy.yaml")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return &config.Config{PolicyFile: path}
	}
	who := keystone.Identity{ProjectID: "a", Roles: []string{"reader"}}
	for _, c := range []struct {
		name  string
		cfg   *config.Config
		may   bool
		error string
	}{
		{"the sample", &config.Config{PolicyFile: "../../../etc/vmthunder/policy.yaml"}, true, ""},
		{"not where it is by default", &config.Config{PolicyFile: config.DefaultPolicyFile}, true, ""},
		{"not where it was said to be", &config.Config{PolicyFile: filepath.Join(dir, "nothing")}, false, "policy_file: open " + dir},
		{"newer defaults", &config.Config{PolicyFile: config.DefaultPolicyFile, NewDefaults: true}, false, ""},
		{"a rule of one's own", file(`"volume:delete": "role:boss"`), false, ""},
		{"bad", file("# one\n\"volume:delete\": role:boss and\n"), false, "policy.yaml:2: rule \"volume:delete\": it ends where a check is expected"},
	} {
		e, err := wire.Rules(c.cfg)
		if c.error != "" {
			if err == nil || !strings.Contains(err.Error(), c.error) || !errors.As(err, new(wire.ConfigError)) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if e.Allowed(who, "volume:delete", policy.Target{ProjectID: "a"}) != c.may {
			t.Errorf("%s: not %v", c.name, c.may)
		}
	}
}
