package lab

import (
	"errors"
	"fmt"
	"regexp"
)

// Service names one of the laboratory's servers.
type Service string

// The services of a laboratory; Up adds what the wanted ones need (see needs). Neutron
// is a stub that has no networks; Nova's virtual machines are fakes.
const (
	Postgres  Service = "postgres"
	Rabbit    Service = "rabbit"
	Memcached Service = "memcached"
	Keystone  Service = "keystone"
	Glance    Service = "glance"
	Placement Service = "placement"
	Neutron   Service = "neutron"
	Nova      Service = "nova"
	// Cinder is the real one, to compare with: no part of AllServices, and beside the
	// project's own API rather than in its place; PointCatalog with CinderURL turns to it.
	Cinder Service = "cinder"
	// Horizon is the dashboard: no part of AllServices, either.
	Horizon Service = "horizon"
)

// AllServices are all services a laboratory can run, in starting order.
func AllServices() []Service { return append(BaseServices(), Placement, Neutron, Nova) }

// BaseServices are those that the project itself works with.
func BaseServices() []Service { return []Service{Postgres, Rabbit, Memcached, Keystone, Glance} }

func knownServices() []Service { return append(AllServices(), Cinder, Horizon) }

// needs are the services that a service can't do without.
func needs(s Service) []Service {
	return map[Service][]Service{
		Keystone: {Postgres, Memcached}, Glance: {Keystone}, Placement: {Keystone}, Nova: {Rabbit, Glance, Placement, Neutron},
		Cinder: {Rabbit, Glance}, Horizon: {Keystone},
	}[s]
}

// Ports inside the namespace. They are the usual ones plus 20000, and the same in every
// laboratory.
const (
	PortPostgres   = 25432
	PortRabbit     = 25672 // 25673: Erlang distribution
	PortEPMD       = 24369
	PortMemcached  = 21211
	PortKeystone   = 25000
	PortGlance     = 29292
	PortNova       = 28774
	PortPlacement  = 28778
	PortNeutron    = 29696
	PortCinder     = 28776 // the real one
	PortHorizon    = 20080
	PortVolume     = 8776 // where the catalog says that the project's own API is
	HostAddress    = "10.77.0.1"
	Region         = "RegionOne"
	Password       = "lab-secret" // of every account in a laboratory, which nothing outside can reach
	DatabaseUser   = "vmthunder"
	RabbitUser     = "openstack"
	networkPrefix  = 24
	firstNodeHost  = 11
	maxNodes       = 200
	defaultMemory  = 256
	gib            = 1 << 30
	bridge         = "br0"
	umlProgram     = "linux.uml"
	defaultNodeFmt = "node%d"
)

// Options describe a laboratory to Up.
type Options struct {
	// Name distinguishes laboratories for people; [a-z0-9-], at most 20 characters.
	// Empty is "lab".
	Name string
	// StateDir holds everything the laboratory writes. Empty is BaseDir()/Name for a
	// laboratory without owner and BaseDir()/Name-ID for one with. User postgres must
	// be able to reach it.
	StateDir string
	// Services to start; see Service.
	Services []Service
	// Nodes to boot.
	Nodes []NodeSpec
	// Computes are the hosts that Nova has a compute service for; nil: every node. The
	// service runs beside the other services and its virtual machines are fakes, but its
	// connectors name the host, so a volume is really connected on the node of that name.
	Computes []string
	// Binary is the static vmthunder-lab program that becomes process 1 of the nodes.
	// Empty: the running program if it is that, else it is built with the go command.
	Binary string
	// Owned ties the laboratory to the calling process: when that ends, in whatever
	// way, the laboratory is taken down.
	Owned bool
	// TemplateDir caches freshly initialised databases between laboratories. Empty is
	// /var/cache/vmthunder-lab, or $VMT_LAB_CACHE; "none" caches nothing.
	TemplateDir string
	// VolumeURL is where the catalog's volumev3 and block-storage point. Empty is
	// http://10.77.0.1:8776/v3/%(project_id)s.
	VolumeURL string
	// Images: build the boot image and register it in Glance as ubuntu12 (raw) and
	// ubuntu12-qcow2.
	Images bool
	// Progress, when not nil, is told what is going on, a line at a time. It is called
	// from several goroutines.
	Progress func(format string, args ...any)
}

// NodeSpec describes one node. Sizes are bytes; the disk files are sparse.
type NodeSpec struct {
	// Name becomes the host name; [a-z0-9-], at most 20 characters.
	Name string `json:"name"`
	// Memory in MiB; 0 is 256. A node that runs a virtual machine wants 1024.
	Memory int `json:"memory,omitempty"`
	// Pool is /dev/ubda, 0 is 4 GiB. Cache is /dev/ubdb, 0 is 1 GiB. State is
	// /dev/ubdc, an ext4 on /var/lib/vmthunder, 0 is 2 GiB.
	Pool  int64 `json:"pool,omitempty"`
	Cache int64 `json:"cache,omitempty"`
	State int64 `json:"state,omitempty"`
	// Tgtd starts tgtd at boot.
	Tgtd bool `json:"tgtd,omitempty"`
	// NoIscsid leaves iscsid to whoever wants it.
	NoIscsid bool `json:"no_iscsid,omitempty"`
}

// Nodes returns n specs named node1, node2 … with the given memory in MiB (0: default).
func Nodes(n, memory int) []NodeSpec {
	var out []NodeSpec
	for i := range n {
		out = append(out, NodeSpec{Name: fmt.Sprintf(defaultNodeFmt, i+1), Memory: memory})
	}
	return out
}

// ErrOptions is wrapped by every complaint about Options.
var ErrOptions = errors.New("bad laboratory options")

var nameRE = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,19}$`)

func (s *NodeSpec) fill() error {
	if !nameRE.MatchString(s.Name) {
		return fmt.Errorf("%w: node name %q", ErrOptions, s.Name)
	}
	if s.Memory == 0 {
		s.Memory = defaultMemory
	}
	if s.Memory < 64 || s.Memory > 65536 {
		return fmt.Errorf("%w: node %s: %d MiB of memory", ErrOptions, s.Name, s.Memory)
	}
	for _, d := range []struct {
		size *int64
		def  int64
	}{{&s.Pool, 4 * gib}, {&s.Cache, gib}, {&s.State, 2 * gib}} {
		if *d.size == 0 {
			*d.size = d.def
		}
		if *d.size < 1<<20 || *d.size%4096 != 0 {
			return fmt.Errorf("%w: node %s: disk of %d bytes", ErrOptions, s.Name, *d.size)
		}
	}
	return nil
}

// closure adds the services that the given ones need and puts them in starting order.
func closure(in []Service) ([]Service, error) {
	want := map[Service]bool{}
	var add func(Service) error
	add = func(s Service) error {
		known := false
		for _, k := range knownServices() {
			known = known || k == s
		}
		if !known {
			return fmt.Errorf("%w: unknown service %q", ErrOptions, s)
		}
		want[s] = true
		for _, n := range needs(s) {
			if err := add(n); err != nil {
				return err
			}
		}
		return nil
	}
	for _, s := range in {
		if err := add(s); err != nil {
			return nil, err
		}
	}
	var out []Service
	for _, s := range knownServices() {
		if want[s] {
			out = append(out, s)
		}
	}
	return out, nil
}
