package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/vmthunder/vmthunder/devstack/lab"
)

// extensionSource is the package's folder, below the module's.
const extensionSource = "cmd/python-vmthunderclient"

// InstallExtension installs the extension of the openstack command as README says, but
// into lab.ExtensionDir, and returns that: what PYTHONPATH has to be for the command of
// lab.OpenStack. Nothing is fetched. What an earlier call installed is replaced.
func InstallExtension(ctx context.Context, l *lab.Lab) (path string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("install %s: %w", extensionSource, err)
		}
	}()
	mod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	from := filepath.Join(filepath.Dir(strings.TrimSpace(string(mod))), extensionSource)
	path = l.ExtensionDir()
	source := path + "-source" // a build leaves things in its source
	if err := errors.Join(os.RemoveAll(path), os.RemoveAll(source)); err != nil {
		return "", err
	}
	if err := os.CopyFS(source, os.DirFS(from)); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "/usr/bin/python3", "-m", "pip", "install", "--quiet", "--no-index", "--no-deps",
		"--no-build-isolation", "--root-user-action=ignore", "--target", path, source)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + l.Dir()}
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("pip: %w: %s", err, out)
	}
	return path, nil
}
