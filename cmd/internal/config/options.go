package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Option is one setting.
type Option struct {
	Section, Name, Default, Help string
	Secret                       bool // kept out of logs and of the sample
	set                          func(*Config, string) error
}

// Options lists every option there is, in the order of the sample file.
var Options = slices.Concat(common, controlPlane, nova, scheduling, agent, backup)

var common = []Option{
	{Section: "DEFAULT", Name: "host", Help: "Name of this host: the same as Nova's [DEFAULT] host. Default: the host name.", set: text(func(c *Config) *string { return &c.Host })},
	{Section: "DEFAULT", Name: "my_ip", Help: "IP address of this host that the others reach it by. Default: the first global address.", set: text(func(c *Config) *string { return &c.MyIP })},
	{Section: "DEFAULT", Name: "log_level", Default: "info", Help: "error, warning, info or debug.", set: oneOf(func(c *Config) *string { return &c.LogLevel }, "error", "warning", "info", "debug")},
	{Section: "DEFAULT", Name: "log_file", Help: "File to log to. Default: standard error.", set: text(func(c *Config) *string { return &c.LogFile })},
	{Section: "DEFAULT", Name: "use_json", Default: "false", Help: "Log JSON objects instead of text.", set: boolean(func(c *Config) *bool { return &c.LogJSON })},
	{Section: "DEFAULT", Name: "transport_url", Secret: true, Default: "rabbit://guest:guest@127.0.0.1:5672/", Help: "The message bus: rabbit://USER:PASSWORD@HOST:PORT[,…]/VHOST.", set: scheme(func(c *Config) *string { return &c.TransportURL }, "rabbit")},
	{Section: "DEFAULT", Name: "control_exchange", Default: "openstack", Help: "Exchange that topics are bound to.", set: text(func(c *Config) *string { return &c.ControlExchange })},
	{Section: "DEFAULT", Name: "rpc_response_timeout", Default: "60", Help: "Seconds to wait for the answer to a call.", set: seconds(func(c *Config) *time.Duration { return &c.RPCTimeout })},
	{Section: "DEFAULT", Name: "storage_availability_zone", Default: "nova", Help: "Availability zone of this node; in the control plane that of volumes that name none.", set: text(func(c *Config) *string { return &c.AvailabilityZone })},
	{Section: "DEFAULT", Name: "volume_backend_name", Help: "Name of the backend that this node's pool is of: HOST@NAME#vmthunder, and what types ask for by extra spec volume_backend_name. In the control plane that of nodes that name none. Default: the control plane's; there vmthunder.", set: backendName(func(c *Config) *string { return &c.BackendName })},
	{Section: "oslo_messaging_rabbit", Name: "amqp_durable_queues", Default: "false", Help: "Queues survive a restart of the broker. All services of a site must agree.", set: boolean(func(c *Config) *bool { return &c.DurableQueues })},
	{Section: "oslo_messaging_rabbit", Name: "amqp_auto_delete", Default: "false", Help: "Queues go with their last consumer. All services of a site must agree.", set: boolean(func(c *Config) *bool { return &c.AutoDelete })},
	{Section: "keystone_authtoken", Name: "auth_url", Help: "Keystone, with its path: http://HOST:5000/v3.", set: scheme(func(c *Config) *string { return &c.Keystone.AuthURL }, "http", "https")},
	{Section: "keystone_authtoken", Name: "www_authenticate_uri", Help: "Keystone as clients reach it. Default: auth_url.", set: scheme(func(c *Config) *string { return &c.Keystone.AuthenticateURI }, "http", "https")},
	{Section: "keystone_authtoken", Name: "auth_type", Default: "password", Help: "Only password.", set: oneOf(func(*Config) *string { return new(string) }, "password")},
	{Section: "keystone_authtoken", Name: "username", Help: "Service user; needs role service (and admin to read private images) in project_name.", set: text(func(c *Config) *string { return &c.Keystone.Username })},
	{Section: "keystone_authtoken", Name: "password", Secret: true, Help: "Its password.", set: text(func(c *Config) *string { return &c.Keystone.Password })},
	{Section: "keystone_authtoken", Name: "project_name", Default: "service", Help: "Its project.", set: text(func(c *Config) *string { return &c.Keystone.Project })},
	{Section: "keystone_authtoken", Name: "user_domain_name", Default: "Default", Help: "Domain of the user.", set: text(func(c *Config) *string { return &c.Keystone.UserDomain })},
	{Section: "keystone_authtoken", Name: "project_domain_name", Default: "Default", Help: "Domain of the project.", set: text(func(c *Config) *string { return &c.Keystone.ProjectDomain })},
	{Section: "keystone_authtoken", Name: "region_name", Help: "Region whose endpoints are used.", set: text(func(c *Config) *string { return &c.Keystone.Region })},
	{Section: "keystone_authtoken", Name: "interface", Default: "internal", Help: "Which endpoints of the catalog are used.", set: oneOf(func(c *Config) *string { return &c.Keystone.Interface }, "internal", "public", "admin")},
	{Section: "keystone_authtoken", Name: "cafile", Help: "CA certificates for HTTPS.", set: file(func(c *Config) *string { return &c.Keystone.CAFile })},
	{Section: "keystone_authtoken", Name: "insecure", Default: "false", Help: "Do not verify certificates.", set: boolean(func(c *Config) *bool { return &c.Keystone.Insecure })},
	{Section: "keystone_authtoken", Name: "service_token_roles", Default: "service", Help: "Roles, comma separated, one of which makes a token a service token.", set: list(func(c *Config) *[]string { return &c.Keystone.ServiceTokenRoles })},
	{Section: "DEFAULT", Name: "glance_api_servers", Help: "Glance's URL. Default: from the catalog.", set: scheme(func(c *Config) *string { return &c.GlanceAPI }, "http", "https")},
}

var controlPlane = []Option{
	{Section: "database", Name: "connection", Secret: true, Help: "postgresql://USER:PASSWORD@HOST:PORT/DATABASE. The control plane only.", set: scheme(func(c *Config) *string { return &c.Database }, "postgresql", "postgres", "postgresql+psycopg2")},
	{Section: "database", Name: "max_pool_size", Default: "20", Help: "Most connections at once, of this replica.", set: number(func(c *Config) *int { return &c.DatabasePool }, 2, 1000)},
	{Section: "DEFAULT", Name: "osapi_volume_listen", Default: "0.0.0.0", Help: "Address the REST API listens on.", set: ip(func(c *Config) *string { return &c.Listen })},
	{Section: "DEFAULT", Name: "osapi_volume_listen_port", Default: "8776", Help: "Its port.", set: number(func(c *Config) *int { return &c.ListenPort }, 1, 65535)},
	{Section: "DEFAULT", Name: "pprof_listen", Help: "ADDRESS:PORT of a loopback address where Go's profiler answers (`go tool pprof http://ADDRESS:PORT/debug/pprof/profile`), of the control plane. Default: it does not.", set: loopback(func(c *Config) *string { return &c.Profiler })},
	{Section: "DEFAULT", Name: "public_endpoint", Help: "URL for links, where it differs from what clients ask.", set: scheme(func(c *Config) *string { return &c.PublicEndpoint }, "http", "https")},
	{Section: "DEFAULT", Name: "osapi_max_limit", Default: "1000", Help: "Most items in one answer.", set: number(func(c *Config) *int { return &c.MaxLimit }, 1, 100000)},
	{Section: "DEFAULT", Name: "resource_query_filters_file", Default: "", Help: "JSON file of what lists may be filtered by, as Cinder's resource_filters.json; empty: as in the one that Cinder comes with.", set: text(func(c *Config) *string { return &c.FiltersFile })},
	{Section: "oslo_middleware", Name: "max_request_body_size", Default: "114688", Help: "Bytes of the largest request body.", set: number(func(c *Config) *int { return &c.MaxBody }, 1024, 1<<30)},
	{Section: "oslo_middleware", Name: "enable_proxy_headers_parsing", Default: "false", Help: "Believe X-Forwarded-Proto, -Host and -Prefix in links. Only behind a proxy that sets them.", set: boolean(func(c *Config) *bool { return &c.ProxyHeaders })},
	{Section: "oslo_policy", Name: "policy_file", Default: DefaultPolicyFile, Help: "Rules that take the place of Cinder's defaults (`vmthunder policy sample` prints all). The default one need not be there.", set: text(func(c *Config) *string { return &c.PolicyFile })},
	{Section: "oslo_policy", Name: "enforce_new_defaults", Default: "false", Help: "Ask for role member or reader in the project; else any role there will do.", set: boolean(func(c *Config) *bool { return &c.NewDefaults })},
	{Section: "cors", Name: "allowed_origin", Help: "Origins, comma separated, whose pages browsers let ask this service, for instance https://horizon.example; * for all.", set: list(func(c *Config) *[]string { return &c.CORS.Origins })},
	{Section: "cors", Name: "allow_credentials", Default: "true", Help: "Browsers may send cookies.", set: boolean(func(c *Config) *bool { return &c.CORS.Credentials })},
	{Section: "cors", Name: "max_age", Default: "3600", Help: "Seconds that browsers remember the answer.", set: number(func(c *Config) *int { return &c.CORS.MaxAge }, 0, 1<<30)},
	{Section: "cors", Name: "allow_methods", Default: "GET,PUT,POST,DELETE,PATCH,HEAD", Help: "Methods that pages may use.", set: list(func(c *Config) *[]string { return &c.CORS.Methods })},
	{Section: "cors", Name: "allow_headers", Default: "X-Auth-Token,X-Identity-Status,X-Roles,X-Service-Catalog,X-User-Id,X-Tenant-Id,X-OpenStack-Request-ID,X-Trace-Info,X-Trace-HMAC,OpenStack-API-Version", Help: "Headers that pages may send.", set: list(func(c *Config) *[]string { return &c.CORS.Headers })},
	{Section: "cors", Name: "expose_headers", Default: "X-Auth-Token,X-Subject-Token,X-Service-Token,X-OpenStack-Request-ID,OpenStack-API-Version", Help: "Headers of answers that pages may read.", set: list(func(c *Config) *[]string { return &c.CORS.Expose })},
	{Section: "DEFAULT", Name: "auth_strategy", Default: "keystone", Help: "keystone, or noauth for a trial: everybody is admin of the project in the URL.", set: oneOf(func(c *Config) *string { return &c.AuthStrategy }, "keystone", "noauth")},
	{Section: "DEFAULT", Name: "default_volume_type", Default: "__DEFAULT__", Help: "Volume type of volumes that name none, where their project has no default of its own. __DEFAULT__ is there from db sync on; any other has to be created.", set: text(func(c *Config) *string { return &c.DefaultType })},
	{Section: "DEFAULT", Name: "default_group_type", Default: "", Help: "Group type that GET /group_types/default shows, by name; it has to be created. Empty: none.", set: text(func(c *Config) *string { return &c.DefaultGroupType })},
	{Section: "DEFAULT", Name: "enable_force_upload", Default: "false", Help: "Volumes in use may be uploaded to the image service, with force.", set: boolean(func(c *Config) *bool { return &c.ForceUpload })},
	{Section: "DEFAULT", Name: "quota_volumes", Default: "1000", Help: "Default quota of a project, -1: none.", set: number(func(c *Config) *int { return &c.QuotaVolumes }, -1, 1<<30)},
	{Section: "DEFAULT", Name: "quota_gigabytes", Default: "100000", Help: "Default quota of a project in GiB.", set: number(func(c *Config) *int { return &c.QuotaGigabytes }, -1, 1<<30)},
	{Section: "DEFAULT", Name: "quota_snapshots", Default: "1000", Help: "Default quota of a project.", set: number(func(c *Config) *int { return &c.QuotaSnapshots }, -1, 1<<30)},
	{Section: "DEFAULT", Name: "quota_backups", Default: "10", Help: "Default quota of a project.", set: number(func(c *Config) *int { return &c.QuotaBackups }, -1, 1<<30)},
	{Section: "DEFAULT", Name: "quota_backup_gigabytes", Default: "1000", Help: "Default quota of a project in GiB.", set: number(func(c *Config) *int { return &c.QuotaBackupGB }, -1, 1<<30)},
	{Section: "DEFAULT", Name: "quota_groups", Default: "10", Help: "Default quota of a project.", set: number(func(c *Config) *int { return &c.QuotaGroups }, -1, 1<<30)},
	{Section: "DEFAULT", Name: "per_volume_size_limit", Default: "-1", Help: "Largest volume in GiB, -1: none.", set: number(func(c *Config) *int { return &c.QuotaPerVolumeGB }, -1, 1<<30)},
}

// nova's names and defaults are those of cinder.conf.
var nova = []Option{
	{Section: "nova", Name: "auth_url", Help: "Keystone for the user below. Default: [keystone_authtoken]'s.", set: scheme(func(c *Config) *string { return &c.Nova.AuthURL }, "http", "https")},
	{Section: "nova", Name: "auth_type", Default: "password", Help: "Only password.", set: oneOf(func(*Config) *string { return new(string) }, "password")},
	{Section: "nova", Name: "username", Help: "User who tells Nova that a volume has been extended; needs role admin in project_name. Default: the user of [keystone_authtoken], with its password, project and domains.", set: text(func(c *Config) *string { return &c.Nova.Username })},
	{Section: "nova", Name: "password", Secret: true, Help: "Its password.", set: text(func(c *Config) *string { return &c.Nova.Password })},
	{Section: "nova", Name: "project_name", Default: "service", Help: "Its project.", set: text(func(c *Config) *string { return &c.Nova.Project })},
	{Section: "nova", Name: "user_domain_name", Default: "Default", Help: "Domain of the user.", set: text(func(c *Config) *string { return &c.Nova.UserDomain })},
	{Section: "nova", Name: "project_domain_name", Default: "Default", Help: "Domain of the project.", set: text(func(c *Config) *string { return &c.Nova.ProjectDomain })},
	{Section: "nova", Name: "region_name", Help: "Region whose Nova is asked. Default: [keystone_authtoken]'s.", set: text(func(c *Config) *string { return &c.Nova.Region })},
	{Section: "nova", Name: "interface", Default: "public", Help: "Which endpoint of Nova in the catalog is used.", set: oneOf(func(c *Config) *string { return &c.Nova.Interface }, "internal", "public", "admin")},
	{Section: "nova", Name: "token_auth_url", Help: "Keystone at which a caller's token is exchanged for one to ask Nova with, and whose catalog then tells where Nova is. Default: the caller's token is used as it is.", set: scheme(func(c *Config) *string { return &c.Nova.TokenAuthURL }, "http", "https")},
	{Section: "nova", Name: "cafile", Help: "CA certificates for HTTPS. Default: [keystone_authtoken]'s.", set: file(func(c *Config) *string { return &c.Nova.CAFile })},
	{Section: "nova", Name: "insecure", Default: "false", Help: "Do not verify certificates; so it is, too, if [keystone_authtoken] says so.", set: boolean(func(c *Config) *bool { return &c.Nova.Insecure })},
}

var scheduling = []Option{
	{Section: "scheduler", Name: "tree_degree", Default: "2", Help: "Most children of a node in an image's tree: 1 is a chain, 2 binary.", set: number(func(c *Config) *int { return &c.TreeDegree }, 1, 1000)},
	{Section: "scheduler", Name: "service_down_time", Default: "15", Help: "Seconds of silence after which a node counts as dead.", set: seconds(func(c *Config) *time.Duration { return &c.NodeDown })},
	{Section: "scheduler", Name: "origin_wait", Default: "60", Help: "Seconds that a new image waits for an origin to be alive before its volumes fail.", set: seconds(func(c *Config) *time.Duration { return &c.OriginWait })},
	{Section: "scheduler", Name: "image_roots", Default: "2", Help: "Origins that hold an image, if there are so many: while one of them is alive, nobody who reads the image waits for another.", set: number(func(c *Config) *int { return &c.ImageRoots }, 1, 100)},
	{Section: "scheduler", Name: "root_wait", Default: "600", Help: "Seconds of silence after which another origin gets the images of one.", set: seconds(func(c *Config) *time.Duration { return &c.RootWait })},
	{Section: "scheduler", Name: "image_idle_time", Default: "3600", Help: "Seconds that an image is kept ready after its last volume has gone.", set: seconds(func(c *Config) *time.Duration { return &c.ImageIdle })},
	{Section: "scheduler", Name: "attach_timeout", Default: "50", Help: "Seconds that an attachment may take. Below Nova's [cinder] timeout.", set: seconds(func(c *Config) *time.Duration { return &c.AttachTimeout })},
	{Section: "scheduler", Name: "max_image_size_gb", Default: "1024", Help: "Largest virtual size of an image in GiB.", set: number(func(c *Config) *int { return &c.MaxImageGiB }, 1, 1<<20)},
	{Section: "scheduler", Name: "reserved_percentage", Default: "5", Help: "Percent of a node's pool kept free of new volumes.", set: number(func(c *Config) *int { return &c.ReservedPercentage }, 0, 100)},
}

var agent = []Option{
	{Section: "node", Name: "compute", Default: "true", Help: "This node holds volumes.", set: boolean(func(c *Config) *bool { return &c.Node.Compute })},
	{Section: "node", Name: "origin", Default: "false", Help: "This node imports images from Glance and is a root of their trees.", set: boolean(func(c *Config) *bool { return &c.Node.Origin })},
	{Section: "node", Name: "rack", Help: "Name of the rack: parents are chosen near.", set: text(func(c *Config) *string { return &c.Node.Rack })},
	{Section: "node", Name: "pool_device", Help: "Where the thin pool stands: a blank disk or partition, vg:NAME, or a file.", set: text(func(c *Config) *string { return &c.Node.PoolDevice })},
	{Section: "node", Name: "cache_device", Help: "Where bcache keeps what was read: a blank disk or partition (an SSD, if there is one). Without it auto chooses dm-cache, in the pool.", set: text(func(c *Config) *string { return &c.Node.CacheDevice })},
	{Section: "node", Name: "cache_driver", Default: "auto", Help: "auto, bcache, dm-cache, flashcache or none.", set: oneOf(func(c *Config) *string { return &c.Node.CacheDriver }, "auto", "bcache", "dm-cache", "flashcache", "none")},
	{Section: "node", Name: "target_helper", Default: "auto", Help: "How devices are exported: lioadm (the kernel's), tgtadm (tgtd), or auto.", set: oneOf(func(c *Config) *string { return &c.Node.TargetHelper }, "auto", "lioadm", "tgtadm")},
	{Section: "node", Name: "target_ip_address", Help: "Address that targets listen on. Default: my_ip.", set: ip(func(c *Config) *string { return &c.Node.TargetIP })},
	{Section: "node", Name: "target_port", Default: "3260", Help: "Its port.", set: number(func(c *Config) *int { return &c.Node.TargetPort }, 1, 65535)},
	{Section: "node", Name: "image_dir", Default: "/var/lib/vmthunder/images", Help: "Where an origin keeps images, and any node those that it makes of volumes until they are uploaded.", set: text(func(c *Config) *string { return &c.Node.ImageDir })},
	{Section: "node", Name: "glance_store_dir", Help: "Glance's filesystem_store_datadir, where this origin can read it: raw images are then served without a copy.", set: text(func(c *Config) *string { return &c.Node.GlanceStoreDir })},
	{Section: "node", Name: "report_interval", Default: "5", Help: "Seconds between reports.", set: seconds(func(c *Config) *time.Duration { return &c.Node.ReportInterval })},
	{Section: "node", Name: "watch_interval", Default: "1", Help: "Seconds between looks at the iSCSI sessions.", set: seconds(func(c *Config) *time.Duration { return &c.Node.WatchInterval })},
	{Section: "node", Name: "replacement_timeout", Default: "2", Help: "Seconds after which a session that lost its connection gives its commands back, to be sent another way.", set: number(func(c *Config) *int { return &c.Node.ReplacementTimeout }, 1, 600)},
	{Section: "node", Name: "read_ahead_kb", Default: "0", Help: "Read-ahead of the page layer in KiB. 0: of an image nothing crosses the network but what was asked for; 128 makes fewer, longer requests of cold reads, and two to four times the traffic.", set: number(func(c *Config) *int { return &c.Node.ReadAheadKiB }, 0, 16384)},
}

// backup's options are a node's.
var backup = []Option{
	{Section: "backup", Name: "posix_path", Help: "Directory that backups of volumes are kept in, the same on every node: an NFS mount. It must hold a file .vmthunder-backups, so that nothing is written where the share is not mounted. Without it this node makes and restores none.", set: text(func(c *Config) *string { return &c.Backup.Path })},
	{Section: "backup", Name: "compression", Default: "zstd", Help: "zstd or none.", set: oneOf(func(c *Config) *string { return &c.Backup.Compression }, "zstd", "none")},
	{Section: "backup", Name: "chunk_size_kb", Default: "4096", Help: "What a backup is cut into, in KiB: a power of two. An increment holds the chunks in which anything has changed. Increments have the size of the full backup that they begin with.", set: number(func(c *Config) *int { return &c.Backup.ChunkKiB }, 64, 65536)},
	{Section: "backup", Name: "workers", Default: "4", Help: "Chunks that are read, compressed and written at the same time.", set: number(func(c *Config) *int { return &c.Backup.Workers }, 1, 64)},
	{Section: "backup", Name: "key_file", Help: "File with 64 hexadecimal digits, the key that backups are encrypted with (AES-256-GCM), the same on every node; nobody but its owner may read it. Whoever loses it loses the backups. Older ones that are not encrypted are read, too.", set: text(func(c *Config) *string { return &c.Backup.KeyFile })},
}

func text(f func(*Config) *string) func(*Config, string) error {
	return func(c *Config, v string) error { *f(c) = v; return nil }
}

func oneOf(f func(*Config) *string, allowed ...string) func(*Config, string) error {
	return func(c *Config, v string) error {
		if !slices.Contains(allowed, v) {
			return fmt.Errorf("%q is not one of %s", v, strings.Join(allowed, ", "))
		}
		*f(c) = v
		return nil
	}
}

// scheme takes a URL, and never repeats it in an error: it may hold a password.
func scheme(f func(*Config) *string, allowed ...string) func(*Config, string) error {
	return func(c *Config, v string) error {
		if v != "" {
			s, rest, ok := strings.Cut(v, "://")
			if !ok || rest == "" || !slices.Contains(allowed, s) {
				return fmt.Errorf("must be a URL that begins with %s://", strings.Join(allowed, ":// or "))
			}
			if !strings.HasPrefix(s, "rabbit") {
				if _, err := url.Parse(v); err != nil {
					return fmt.Errorf("is no valid URL (special characters in a password must be percent-encoded)")
				}
			}
		}
		*f(c) = v
		return nil
	}
}

// backendName is part of HOST@BACKEND#POOL.
func backendName(f func(*Config) *string) func(*Config, string) error {
	return func(c *Config, v string) error {
		if strings.ContainsAny(v, "@#,/ ") {
			return fmt.Errorf("%q must have no @, #, comma, slash or space in it", v)
		}
		*f(c) = v
		return nil
	}
}

func boolean(f func(*Config) *bool) func(*Config, string) error {
	return func(c *Config, v string) error {
		switch strings.ToLower(v) {
		case "true", "yes", "on", "1":
			*f(c) = true
		case "false", "no", "off", "0":
			*f(c) = false
		default:
			return fmt.Errorf("%q is neither true nor false", v)
		}
		return nil
	}
}

func number(f func(*Config) *int, low, high int) func(*Config, string) error {
	return func(c *Config, v string) error {
		n, err := strconv.Atoi(v)
		if err != nil || n < low || n > high {
			return fmt.Errorf("%q is not a whole number from %d to %d", v, low, high)
		}
		*f(c) = n
		return nil
	}
}

func seconds(f func(*Config) *time.Duration) func(*Config, string) error {
	return func(c *Config, v string) error {
		s, err := strconv.ParseFloat(v, 64)
		if err != nil || s < 0 || s > 1e8 {
			return fmt.Errorf("%q is not a number of seconds", v)
		}
		*f(c) = time.Duration(s * float64(time.Second))
		return nil
	}
}

func list(f func(*Config) *[]string) func(*Config, string) error {
	return func(c *Config, v string) error {
		*f(c) = nil
		for w := range strings.SplitSeq(v, ",") {
			if w = strings.TrimSpace(w); w != "" {
				*f(c) = append(*f(c), w)
			}
		}
		return nil
	}
}

func ip(f func(*Config) *string) func(*Config, string) error {
	return func(c *Config, v string) error {
		if v != "" && net.ParseIP(v) == nil {
			return fmt.Errorf("%q is no IP address", v)
		}
		*f(c) = v
		return nil
	}
}

// loopback takes an address with port that only this host reaches.
func loopback(f func(*Config) *string) func(*Config, string) error {
	return func(c *Config, v string) error {
		if v != "" {
			a, err := netip.ParseAddrPort(v)
			if err != nil || !a.Addr().IsLoopback() {
				return fmt.Errorf("%q is no loopback address with a port, like 127.0.0.1:6060", v)
			}
		}
		*f(c) = v
		return nil
	}
}

func file(f func(*Config) *string) func(*Config, string) error {
	return func(c *Config, v string) error {
		if v != "" {
			if _, err := os.Stat(v); err != nil {
				return fmt.Errorf("can't be read: %w", err)
			}
		}
		*f(c) = v
		return nil
	}
}
