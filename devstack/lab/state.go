package lab

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Environment variables the laboratory reads.
const (
	// EnvState names the state directory of a laboratory to join.
	EnvState = "VMT_LAB_STATE"
	// EnvBase is the directory in which laboratories are made.
	EnvBase = "VMT_LAB_BASE"
	// EnvBinary is the vmthunder-lab program.
	EnvBinary = "VMT_LAB_BIN"
	// EnvCache is the directory of templates and images.
	EnvCache = "VMT_LAB_CACHE"
	// EnvKeep, when 1, leaves a test's laboratory standing.
	EnvKeep = "KEEP"
)

const (
	stateFile    = "lab.json"
	defaultBase  = "/var/lib/vmthunder-lab"
	defaultCache = "/var/cache/vmthunder-lab"
	shmDir       = "/dev/shm"
)

var (
	// ErrNoLab is returned for a laboratory that does not exist.
	ErrNoLab = errors.New("no such laboratory")
	// ErrExists is returned by Up when the state directory holds a laboratory already.
	ErrExists = errors.New("laboratory exists")
	// ErrRunning is returned when something that is to be started runs already.
	ErrRunning = errors.New("running already")
	// ErrNoNode is returned for a node the laboratory does not have.
	ErrNoNode = errors.New("no such node")
	// ErrNotRunning is returned for a node or process that is down.
	ErrNotRunning = errors.New("not running")
)

// state is what a laboratory is, as kept in its lab.json. What runs is known from pid
// files, so any process can open the laboratory and see and do the same.
type state struct {
	Name      string      `json:"name"`
	ID        string      `json:"id"`
	Namespace string      `json:"namespace"`
	Created   time.Time   `json:"created"`
	Binary    string      `json:"binary"`
	Memory    string      `json:"memory"` // directory of the nodes' memory files
	Cache     string      `json:"cache"`  // templates and images; empty: none
	Owner     *procID     `json:"owner,omitempty"`
	Services  []Service   `json:"services"`
	Nodes     []nodeState `json:"nodes"`
	Computes  []string    `json:"computes,omitempty"` // hosts of Nova's compute services
	VolumeURL string      `json:"volume_url"`
}

type nodeState struct {
	NodeSpec
	Host int `json:"host"` // last byte of its address
}

// BaseDir is where laboratories live: $VMT_LAB_BASE, or /var/lib/vmthunder-lab.
func BaseDir() string {
	if d := os.Getenv(EnvBase); d != "" {
		return d
	}
	return defaultBase
}

func cacheDir(option string) string {
	switch {
	case option == "none":
		return ""
	case option != "":
		return option
	case os.Getenv(EnvCache) != "":
		return os.Getenv(EnvCache)
	}
	return defaultCache
}

func randomID() string {
	var b [3]byte
	_, _ = rand.Read(b[:]) // never fails, says crypto/rand
	return hex.EncodeToString(b[:])
}

// save writes lab.json whole.
func (l *Lab) save() error {
	b, err := json.MarshalIndent(l.st, "", "  ")
	if err != nil {
		return err
	}
	tmp := filepath.Join(l.dir, stateFile+".new")
	if err := os.WriteFile(tmp, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("save laboratory: %w", err)
	}
	return os.Rename(tmp, filepath.Join(l.dir, stateFile))
}

// Open joins a laboratory by its state directory, or by its name below BaseDir.
func Open(dirOrName string) (*Lab, error) {
	dir := dirOrName
	if !strings.Contains(dir, "/") {
		dir = filepath.Join(BaseDir(), dir)
	}
	b, err := os.ReadFile(filepath.Join(dir, stateFile)) //nolint:gosec // named by the caller
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNoLab, dir)
	}
	if err != nil {
		return nil, err
	}
	l := &Lab{dir: dir, progress: func(string, ...any) {}}
	if err := json.Unmarshal(b, &l.st); err != nil {
		return nil, fmt.Errorf("laboratory %s: %w", dir, err)
	}
	return l, nil
}

// FromEnv opens the laboratory that Main made for this test process.
func FromEnv() (*Lab, error) {
	d := os.Getenv(EnvState)
	if d == "" {
		return nil, fmt.Errorf("%w: %s is not set; call lab.Main from TestMain", ErrNoLab, EnvState)
	}
	return Open(d)
}

// List opens all laboratories below BaseDir.
func List() ([]*Lab, error) {
	dirs, err := os.ReadDir(BaseDir())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var out []*Lab
	for _, d := range dirs {
		if l, err := Open(filepath.Join(BaseDir(), d.Name())); err == nil {
			out = append(out, l)
		}
	}
	return out, nil
}
