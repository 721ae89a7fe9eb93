package lab

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
)

// KeystoneURL is the identity API, http://10.77.0.1:25000/v3.
func (l *Lab) KeystoneURL() string {
	return "http://" + HostAddress + ":" + strconv.Itoa(PortKeystone) + "/v3"
}

// GlanceURL is the image API.
func (l *Lab) GlanceURL() string { return "http://" + HostAddress + ":" + strconv.Itoa(PortGlance) }

// OpenStackEnv returns the OS_* variables of an account (admin or demo), KEY=VALUE.
func (l *Lab) OpenStackEnv(account string) []string {
	return []string{
		"OS_AUTH_URL=" + l.KeystoneURL(), "OS_IDENTITY_API_VERSION=3", "OS_USERNAME=" + account, "OS_PASSWORD=" + Password,
		"OS_PROJECT_NAME=" + account, "OS_USER_DOMAIN_NAME=Default", "OS_PROJECT_DOMAIN_NAME=Default", "OS_REGION_NAME=" + Region,
		"OS_VOLUME_API_VERSION=3", "OS_COMPUTE_API_VERSION=2.90", // servers without a network need 2.37
	}
}

// ExtensionDir is where the extension of the openstack command belongs, when it is
// installed in the laboratory: the PYTHONPATH of a command that is to have it.
func (l *Lab) ExtensionDir() string { return filepath.Join(l.dir, "client") }

// OpenStack prepares Debian's openstack command for an account; run it with RunInside.
// A clean environment keeps the caller's Python settings and proxies out.
func (l *Lab) OpenStack(account string, args ...string) (*exec.Cmd, error) {
	const program = "/usr/bin/openstack"
	if _, err := exec.LookPath(program); err != nil {
		return nil, fmt.Errorf("openstack command: %w; run devstack/packages.sh openstack", err)
	}
	cmd := exec.Command(program, args...) //nolint:noctx,gosec // ends with its own timeouts; the user's arguments
	cmd.Env = append(cleanEnv(filepath.Join(l.dir, "home")), l.OpenStackEnv(account)...)
	return cmd, nil
}
