// Package config reads vmthunder.conf: oslo.config's INI form, with cinder.conf's names
// where an option means the same. An option, a section or a value that is not known or not
// possible is refused with file, section and name: a typing error must not pass for
// a setting.
package config

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"gopkg.in/ini.v1"
)

// DefaultPolicyFile is read if it is there.
const DefaultPolicyFile = "/etc/vmthunder/policy.yaml"

// Config is everything that can be set. Fields are described in [Options].
type Config struct {
	Host, MyIP, LogLevel, LogFile string
	LogJSON                       bool

	TransportURL, ControlExchange string
	RPCTimeout                    time.Duration
	DurableQueues, AutoDelete     bool

	Database     string
	DatabasePool int

	Listen             string
	ListenPort         int
	Profiler           string // ADDRESS:PORT; "": off
	PublicEndpoint     string
	MaxLimit           int
	MaxBody            int
	ProxyHeaders       bool
	CORS               CORS
	PolicyFile         string
	FiltersFile        string
	NewDefaults        bool
	AuthStrategy       string
	DefaultType        string
	DefaultGroupType   string
	ForceUpload        bool
	BackendName        string
	AvailabilityZone   string
	Keystone           Keystone
	Nova               Nova
	GlanceAPI          string
	QuotaVolumes       int
	QuotaGigabytes     int
	QuotaSnapshots     int
	QuotaBackups       int
	QuotaBackupGB      int
	QuotaGroups        int
	QuotaPerVolumeGB   int
	TreeDegree         int
	NodeDown           time.Duration
	OriginWait         time.Duration
	ImageRoots         int
	RootWait           time.Duration
	ImageIdle          time.Duration
	AttachTimeout      time.Duration
	MaxImageGiB        int
	ReservedPercentage int

	Node   Node
	Backup Backup
}

// CORS is which web pages may ask the REST API from a browser (section cors).
type CORS struct {
	Origins, Methods, Headers, Expose []string
	Credentials                       bool
	MaxAge                            int // seconds
}

// Keystone is how services authenticate (section keystone_authtoken).
type Keystone struct {
	AuthURL, AuthenticateURI          string
	Username, Password, Project       string
	UserDomain, ProjectDomain, Region string
	Interface                         string
	CAFile                            string
	Insecure                          bool
	ServiceTokenRoles                 []string
}

// Nova is how the control plane reaches Nova (section nova).
type Nova struct {
	AuthURL, TokenAuthURL             string
	Username, Password, Project       string
	UserDomain, ProjectDomain, Region string
	Interface                         string
	CAFile                            string
	Insecure                          bool
}

// Node is what the agent needs (section node).
type Node struct {
	Origin, Compute               bool
	Rack                          string
	PoolDevice, CacheDevice       string
	CacheDriver, TargetHelper     string
	TargetIP                      string
	TargetPort                    int
	ImageDir, GlanceStoreDir      string
	ReportInterval, WatchInterval time.Duration
	ReplacementTimeout            int
	ReadAheadKiB                  int
}

// Backup is where a node keeps backups of volumes (section backup).
type Backup struct {
	Path        string // "": it has none to do with
	Compression string
	ChunkKiB    int
	Workers     int
	KeyFile     string
}

// Load reads files in order, later ones over earlier ones. The defaults hold for what
// none of them sets.
func Load(files ...string) (*Config, error) {
	c := &Config{}
	for _, o := range Options {
		if err := o.set(c, o.Default); err != nil {
			return nil, fmt.Errorf("default of [%s] %s: %w", o.Section, o.Name, err)
		}
	}
	var errs []error
	for _, f := range files {
		errs = append(errs, c.read(f)...)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Config) read(file string) []error {
	f, err := ini.LoadSources(ini.LoadOptions{
		AllowShadows: false, SpaceBeforeInlineComment: true, IgnoreInlineComment: true,
		KeyValueDelimiters: "=:", AllowPythonMultilineValues: true, PreserveSurroundedQuote: false,
	}, file)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return []error{fmt.Errorf("configuration file %s is not there; a sample is etc/vmthunder/vmthunder.conf", file)}
		}
		if ini.IsErrDelimiterNotFound(err) { // which quotes the line, and that may hold a password
			return []error{fmt.Errorf("configuration file %s: line %d is no NAME = VALUE", file, lineWithoutValue(file, err))}
		}
		return []error{fmt.Errorf("configuration file %s: %w", file, err)}
	}
	var errs []error
	for _, section := range f.Sections() {
		for _, key := range section.Keys() {
			o, ok := find(section.Name(), key.Name())
			if !ok {
				errs = append(errs, fmt.Errorf("%s: [%s] %s: %s", file, section.Name(), key.Name(), guess(section.Name(), key.Name())))
				continue
			}
			if err := o.set(c, strings.TrimSpace(key.Value())); err != nil {
				errs = append(errs, fmt.Errorf("%s: [%s] %s: %w", file, section.Name(), key.Name(), err))
			}
		}
	}
	return errs
}

// lineWithoutValue finds the line that the parser stopped at; it does not tell its number.
func lineWithoutValue(file string, err error) int {
	var e ini.ErrDelimiterNotFound
	b, readErr := os.ReadFile(file)
	if !errors.As(err, &e) || readErr != nil {
		return 0
	}
	for i, line := range strings.Split(string(b), "\n") {
		if strings.TrimSpace(line) == strings.TrimSpace(e.Line) {
			return i + 1
		}
	}
	return 0
}

func find(section, name string) (Option, bool) {
	for _, o := range Options {
		if o.Section == section && (o.Name == name || strings.ReplaceAll(o.Name, "_", "-") == name) {
			return o, true
		}
	}
	return Option{}, false
}

// guess says what may have been meant.
func guess(section, name string) string {
	known := false
	for _, o := range Options {
		if o.Name == name {
			return fmt.Sprintf("no such option here; did you mean section [%s]?", o.Section)
		}
		known = known || o.Section == section
	}
	if !known {
		return "no such section"
	}
	best, distance := "", 4
	for _, o := range Options {
		if d := edits(o.Name, name); o.Section == section && d < distance {
			best, distance = o.Name, d
		}
	}
	if best != "" {
		return fmt.Sprintf("no such option; did you mean %s?", best)
	}
	return "no such option"
}

// edits is the Levenshtein distance.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			diagonal, row[j] = row[j], min(row[j]+1, row[j-1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
