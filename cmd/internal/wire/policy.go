package wire

import (
	"errors"
	"io/fs"

	"github.com/vmthunder/vmthunder/api/policy"
	"github.com/vmthunder/vmthunder/cmd/internal/config"
)

// Rules are those in force: Cinder's defaults, and what the policy file says instead. The
// file at its default place need not be there; a bad one is refused.
func Rules(c *config.Config) (*policy.Enforcer, error) {
	overrides, err := policy.Load(c.PolicyFile)
	if errors.Is(err, fs.ErrNotExist) && c.PolicyFile == config.DefaultPolicyFile {
		err = nil
	}
	if err != nil {
		return nil, configError("[oslo_policy] policy_file: %w", err)
	}
	e, err := policy.New(policy.Options{NewDefaults: c.NewDefaults, Overrides: overrides})
	if err != nil {
		return nil, configError("[oslo_policy] policy_file: %w", err)
	}
	return e, nil
}
