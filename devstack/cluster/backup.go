package cluster

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

const backupMount = "/mnt/vmthunder-backups"

// ShareBackups has nodes keep backups in a directory of the host, which is made, in chunks of
// 1 MiB. Their agents start anew. [Cluster.UnshareBackups] ends it.
func (c *Cluster) ShareBackups(ctx context.Context, dir string, hosts ...string) error {
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, ".vmthunder-backups"), nil, 0o600)); err != nil {
		return err
	}
	for _, h := range hosts {
		n, err := c.Lab.Node(h)
		if err != nil {
			return err
		}
		if _, err := n.Run(ctx, "mkdir", "-p", backupMount); err != nil {
			return err
		}
		if _, err := n.Run(ctx, "mount", "-t", "hostfs", "none", backupMount, "-o", dir); err != nil {
			return err
		}
		if err := c.restartWith(ctx, h, backupMount); err != nil {
			return err
		}
	}
	return wait(ctx, time.Minute, "the nodes to reach the share", func() (bool, error) {
		var out struct{ Services []struct{ State string } }
		if err := c.Admin().Do(ctx, http.MethodGet, "/os-services?binary=cinder-backup", nil, &out); err != nil {
			return false, err
		}
		up := 0
		for _, s := range out.Services {
			if s.State == "up" {
				up++
			}
		}
		return up >= len(hosts), nil
	})
}

// UnshareBackups takes the directory from the nodes.
func (c *Cluster) UnshareBackups(ctx context.Context, hosts ...string) error {
	var errs []error
	for _, h := range hosts {
		errs = append(errs, c.restartWith(ctx, h, ""))
		n, err := c.Lab.Node(h)
		if err == nil {
			_, err = n.Run(ctx, "umount", backupMount)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c *Cluster) restartWith(ctx context.Context, host, path string) error {
	return errors.Join(
		c.Configure(host, map[string]string{"backup.posix_path": path, "backup.chunk_size_kb": "1024"}),
		c.StopAgent(ctx, host),
		c.StartAgent(ctx, host))
}
