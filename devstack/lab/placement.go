package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

const placementConf = `[DEFAULT]
[api]
auth_strategy = keystone
[placement_database]
connection = %[1]s
max_pool_size = 5
max_overflow = 20
[keystone_authtoken]
www_authenticate_uri = %[2]s
memcached_servers = 127.0.0.1:%[3]d
%[4]s`

// PlacementURL is the placement API.
func (l *Lab) PlacementURL() string {
	return "http://" + HostAddress + ":" + strconv.Itoa(PortPlacement)
}

// passwordAuth are keystoneauth's options of a service user, as every section wants them.
func (l *Lab) passwordAuth(user string) string {
	return fmt.Sprintf(`auth_type = password
auth_url = %s
region_name = %s
project_domain_name = Default
user_domain_name = Default
project_name = service
username = %s
password = %s
`, l.KeystoneURL(), Region, user, Password)
}

func (l *Lab) startPlacement(ctx context.Context) error {
	d := filepath.Join(l.dir, "placement")
	if err := os.MkdirAll(d, 0o755); err != nil {
		return err
	}
	conf := filepath.Join(d, "placement.conf")
	text := fmt.Sprintf(placementConf, sqlalchemyURL("placement"), l.KeystoneURL(), PortMemcached, l.passwordAuth("placement"))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		return err
	}
	have, err := l.hasDatabase(ctx, "placement")
	if err != nil {
		return err
	}
	if !have {
		l.progress("placement: making its database")
		if err := l.CreateDatabase(ctx, "placement"); err != nil {
			return err
		}
		if err := l.python(ctx, "placement-manage", "/usr/bin/placement-manage", "--config-file", conf, "db", "sync"); err != nil {
			return err
		}
	}
	return l.startUWSGI(ctx, Placement, PortPlacement, "/usr/bin/placement-api", "/", "OS_PLACEMENT_CONFIG_DIR="+d)
}
