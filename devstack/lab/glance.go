package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

const glanceConf = `[DEFAULT]
bind_host = 0.0.0.0
bind_port = %[1]d
public_endpoint = http://%[2]s:%[1]d
node_staging_uri = file://%[3]s/staging
enabled_import_methods = [glance-direct]
show_multiple_locations = true
[database]
connection = %[4]s
max_pool_size = 5
max_overflow = 20
[glance_store]
stores = file,http
default_store = file
filesystem_store_datadir = %[3]s/images
[task]
work_dir = %[3]s/tasks
[keystone_authtoken]
www_authenticate_uri = %[5]s
memcached_servers = 127.0.0.1:%[6]d
auth_type = password
auth_url = %[5]s
region_name = %[7]s
project_domain_name = Default
user_domain_name = Default
project_name = service
username = glance
password = %[8]s
[paste_deploy]
flavor = keystone
[oslo_concurrency]
lock_path = %[3]s/lock
`

func (l *Lab) glanceDir() string { return filepath.Join(l.dir, "glance") }

// ImageStore is the host directory with Glance's image files, named by image id.
func (l *Lab) ImageStore() string { return filepath.Join(l.glanceDir(), "images") }

func (l *Lab) startGlance(ctx context.Context) error {
	d := l.glanceDir()
	for _, s := range []string{"images", "staging", "tasks", "lock"} {
		if err := os.MkdirAll(filepath.Join(d, s), 0o755); err != nil {
			return err
		}
	}
	conf := filepath.Join(d, "glance-api.conf")
	text := fmt.Sprintf(glanceConf, PortGlance, HostAddress, d, sqlalchemyURL("glance"), l.KeystoneURL(), PortMemcached, Region, Password)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return err
	}
	for _, f := range []string{"glance-api-paste.ini", "glance-image-import.conf"} {
		b, err := os.ReadFile(filepath.Join("/usr/share/glance-common", f))
		if err != nil {
			return fmt.Errorf("%w; run devstack/packages.sh openstack", err)
		}
		if err := os.WriteFile(filepath.Join(d, f), b, 0o644); err != nil { //nolint:gosec // Debian's own text
			return err
		}
	}
	have, err := l.hasDatabase(ctx, "glance")
	if err != nil {
		return err
	}
	if !have {
		l.progress("glance: making its database")
		if err := l.CreateDatabase(ctx, "glance"); err != nil {
			return err
		}
		if err := l.python(ctx, "glance-manage", "/usr/bin/glance-manage", "--config-file", conf, "db_sync"); err != nil {
			return err
		}
	}
	return l.startUWSGI(ctx, Glance, PortGlance, "/usr/bin/glance-wsgi-api", "/", "OS_GLANCE_CONFIG_DIR="+d)
}
