// Package nodeinit is process 1 of a laboratory node: it turns the host's read-only
// root into a writable machine of its own, brings up disks, network and the iSCSI
// daemon, starts the agent and then does what process 1 is for, reaping orphans.
package nodeinit

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// ConfigParam is the kernel command line parameter that names the configuration file.
const ConfigParam = "vmthunder_lab_config"

// ReadyLine is what a node prints on its console once its agent listens.
const ReadyLine = "vmthunder-lab: node ready"

// FailedLine begins the console line of a node that could not be set up.
const FailedLine = "vmthunder-lab: node failed: "

// ShareDir is where a node sees the host directory of its own that survives it.
const ShareDir = "/run/vmthunder-lab"

// StateDir is where a node mounts its ext4 disk (ubdc).
const StateDir = "/var/lib/vmthunder"

// Config describes one node to its process 1. It is a JSON file on the host.
type Config struct {
	Name      string   `json:"name"`
	Address   string   `json:"address"` // with prefix length, 10.77.0.11/24
	Initiator string   `json:"initiator"`
	Hosts     []string `json:"hosts"`   // lines of /etc/hosts
	Modules   []string `json:"modules"` // missing ones are reported, not fatal
	Share     string   `json:"share"`   // host directory that becomes ShareDir
	Iscsid    bool     `json:"iscsid"`
	Tgtd      bool     `json:"tgtd"`
	Overlay   int      `json:"overlay"` // MiB the writable layer may take of the node's memory
}

func parseCmdline(s string) (path string) {
	for f := range strings.FieldsSeq(s) {
		if v, ok := strings.CutPrefix(f, ConfigParam+"="); ok {
			path = v
		}
	}
	return path
}

func readConfig() (Config, error) {
	var c Config
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return c, fmt.Errorf("read kernel command line: %w", err)
	}
	path := parseCmdline(string(line))
	if path == "" {
		return c, fmt.Errorf("%s is not on the kernel command line", ConfigParam)
	}
	b, err := os.ReadFile(path) //nolint:gosec // the laboratory's own file
	if err != nil {
		return c, fmt.Errorf("read node configuration: %w", err)
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return c, fmt.Errorf("node configuration %s: %w", path, err)
	}
	return c, nil
}
