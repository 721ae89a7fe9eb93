package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// horizonSettings come on top of Debian's own, which would keep a key on the host. Ours
// signs sessions that end with the laboratory.
const horizonSettings = `from horizon.utils import secret_key
secret_key.generate_or_read_from_file = lambda path: "%[3]s"
from openstack_dashboard.settings import *  # noqa

DEBUG = False
ALLOWED_HOSTS = ["%[1]s"]
OPENSTACK_KEYSTONE_URL = "%[2]s"
OPENSTACK_KEYSTONE_DEFAULT_ROLE = "member"
SESSION_ENGINE = "django.contrib.sessions.backends.cache"
CACHES = {"default": {"BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache", "LOCATION": "127.0.0.1:%[4]d"}}
OPENSTACK_CINDER_FEATURES = {"enable_backup": True}
OPENSTACK_API_VERSIONS = {"identity": 3, "image": 2, "volume": 3}
SHOW_KEYSTONE_V2_RC = False
`

const horizonWSGI = `from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
`

// horizonStatic is where Debian's package keeps what a browser loads.
const horizonStatic = "/var/lib/openstack-dashboard/static"

// HorizonURL is the dashboard.
func (l *Lab) HorizonURL() string { return "http://" + HostAddress + ":" + strconv.Itoa(PortHorizon) }

func (l *Lab) startHorizon(ctx context.Context) error {
	if _, err := os.Stat(horizonStatic); err != nil {
		return fmt.Errorf("%w; run devstack/packages.sh clients", err)
	}
	d := filepath.Join(l.dir, "horizon")
	if err := os.MkdirAll(d, 0o755); err != nil {
		return err
	}
	// Random, as no two laboratories are told apart by it; the cache forgets old sessions.
	settings := fmt.Sprintf(horizonSettings, HostAddress, l.KeystoneURL(), l.st.ID+randomID()+randomID()+randomID(), PortMemcached)
	for name, text := range map[string]string{"lab_settings.py": settings, "wsgi.py": horizonWSGI} {
		if err := os.WriteFile(filepath.Join(d, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return l.startUWSGI(ctx, Horizon, PortHorizon, filepath.Join(d, "wsgi.py"), "/auth/login/",
		"PYTHONPATH="+d, "PYTHONDONTWRITEBYTECODE=1", "DJANGO_SETTINGS_MODULE=lab_settings", "UWSGI_STATIC_MAP=/static="+horizonStatic)
}
