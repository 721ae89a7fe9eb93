// Package cluster runs the product in a laboratory: the control plane as processes of
// the laboratory's namespace, an agent on every node, configured and wired as an
// operator would. Demo, benchmarks and tests of the whole drive it.
package cluster

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/vmthunder/vmthunder/devstack/lab"
)

// Options of a cluster.
type Options struct {
	// Origins are the nodes that import images; default: the first.
	Origins []string
	// Replicas of the control plane, default 1. The first serves port lab.PortVolume, the
	// others the ports after it.
	Replicas int
	// Set overrides options of the configuration: "section.name" to value, for all.
	Set map[string]string
	// SetNode overrides them for one node.
	SetNode map[string]map[string]string
	// Database, if there are several clusters in a lab one after the other.
	Database string
	// Debug has the agents and the control plane log every step.
	Debug    bool
	Progress func(format string, args ...any)
}

// Cluster is the product in a laboratory.
type Cluster struct {
	Lab *lab.Lab
	opt Options
	bin string
	api []*lab.Process
}

// Start builds the programs, makes the database, and starts control plane and agents. It
// returns when every agent has reported.
func Start(ctx context.Context, l *lab.Lab, o Options) (c *Cluster, err error) {
	if o.Replicas < 1 {
		o.Replicas = 1
	}
	if o.Database == "" {
		o.Database = "vmthunder"
	}
	if len(o.Origins) == 0 && len(l.Nodes()) > 0 {
		o.Origins = []string{l.Nodes()[0].Name()}
	}
	if o.Progress == nil {
		o.Progress = func(string, ...any) {}
	}
	c = &Cluster{Lab: l, opt: o, bin: filepath.Join(l.Dir(), "bin")}
	o.Progress("building the programs")
	if err := c.build(ctx); err != nil {
		return nil, err
	}
	if err := l.CreateDatabase(ctx, o.Database); err != nil {
		return nil, err
	}
	if err := c.writeConfig(""); err != nil {
		return nil, err
	}
	if out, err := c.Command(ctx, "vmthunder", "db", "sync"); err != nil {
		return nil, fmt.Errorf("vmthunder db sync: %w: %s", err, out)
	}
	o.Progress("starting the control plane")
	c.api = make([]*lab.Process, o.Replicas)
	for i := range o.Replicas {
		if err := c.StartAPI(ctx, i); err != nil {
			return nil, err
		}
	}
	o.Progress("starting %d agents", len(l.Nodes()))
	for _, n := range l.Nodes() {
		if err := c.StartAgent(ctx, n.Name()); err != nil {
			return nil, err
		}
	}
	return c, c.WaitNodes(ctx, len(l.Nodes()))
}

// build makes static programs, each laboratory its own copy: a rebuild must not change
// what runs in a node.
func (c *Cluster) build(ctx context.Context) error {
	if err := os.MkdirAll(c.bin, 0o755); err != nil {
		return err
	}
	args := []string{"build", "-o", c.bin + "/"}
	for _, p := range []string{"vmthunder", "vmthunder-api", "vmthunder-node"} {
		args = append(args, "github.com/vmthunder/vmthunder/cmd/"+p)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, out)
	}
	return nil
}

// Program is the path of one of the product's programs.
func (c *Cluster) Program(name string) string { return filepath.Join(c.bin, name) }

// ConfigPath is the configuration of the control plane (host "") or of a node.
func (c *Cluster) ConfigPath(host string) string {
	if host == "" {
		host = "controller"
	}
	return filepath.Join(c.Lab.Dir(), "etc", host+".conf")
}

// Command runs one of the product's programs as an operator would, inside the namespace.
func (c *Cluster) Command(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.Program(program), append([]string{"--config-file", c.ConfigPath("")}, args...)...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"}, c.Lab.OpenStackEnv("admin")...)
	err := c.Lab.RunInside(cmd)
	return out.String(), err
}

// writeConfig writes vmthunder.conf of the control plane or of a node.
func (c *Cluster) writeConfig(host string) error {
	l := c.Lab
	set := map[string]map[string]string{}
	put := func(section, name, value string) {
		if set[section] == nil {
			set[section] = map[string]string{}
		}
		set[section][name] = value
	}
	put("DEFAULT", "transport_url", l.TransportURL())
	put("DEFAULT", "glance_api_servers", l.GlanceURL())
	if c.opt.Debug {
		put("DEFAULT", "log_level", "debug")
	}
	put("keystone_authtoken", "auth_url", l.KeystoneURL())
	put("keystone_authtoken", "username", "vmthunder")
	put("keystone_authtoken", "password", lab.Password)
	put("keystone_authtoken", "region_name", lab.Region)
	if host == "" {
		put("database", "connection", l.DatabaseURL(c.opt.Database))
		put("scheduler", "image_idle_time", "0")
	} else {
		n, err := l.Node(host)
		if err != nil {
			return err
		}
		put("DEFAULT", "my_ip", n.IP())
		put("node", "pool_device", "/dev/ubda")
		put("node", "cache_device", "/dev/ubdb")
		put("node", "report_interval", "2")
		for _, o := range c.opt.Origins {
			if o == host {
				put("node", "origin", "true")
			}
		}
	}
	for _, m := range []map[string]string{c.opt.Set, c.opt.SetNode[host]} {
		for k, v := range m {
			section, name, _ := strings.Cut(k, ".")
			if host == "" && section == "node" || host != "" && (section == "scheduler" || section == "database") {
				continue
			}
			put(section, name, v)
		}
	}
	var b strings.Builder
	for section, options := range set {
		fmt.Fprintf(&b, "[%s]\n", section)
		for name, value := range options {
			fmt.Fprintf(&b, "%s = %s\n", name, value)
		}
	}
	path := c.ConfigPath(host)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(b.String()), 0o600)
}

// Configure changes a node's options; they count from its agent's next start.
func (c *Cluster) Configure(host string, set map[string]string) error {
	if c.opt.SetNode == nil {
		c.opt.SetNode = map[string]map[string]string{}
	}
	m := map[string]string{}
	maps.Copy(m, c.opt.SetNode[host])
	maps.Copy(m, set)
	c.opt.SetNode[host] = m
	return c.writeConfig(host)
}

func apiName(i int) string { return fmt.Sprintf("vmthunder-api-%d", i) }

// StartAPI starts a replica of the control plane and waits until it answers.
func (c *Cluster) StartAPI(ctx context.Context, i int) error {
	p, err := c.Lab.StartHost(apiName(i), []string{
		c.Program("vmthunder-api"), "--config-file", c.ConfigPath(""), "--host", fmt.Sprintf("controller-%d", i), "--port", fmt.Sprint(lab.PortVolume + i),
	}, nil)
	if err != nil {
		return err
	}
	c.api[i] = p
	client := c.Lab.HTTPClient()
	return wait(ctx, 30*time.Second, "replica "+apiName(i)+" to answer, see "+p.LogPath(), func() (bool, error) {
		if !p.Running() {
			return false, fmt.Errorf("%s has ended:\n%s", apiName(i), tail(p.LogPath()))
		}
		resp, err := client.Get(c.url(i) + "/healthcheck")
		if err != nil {
			return false, nil //nolint:nilerr // not yet
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK, nil
	})
}

// API is a running replica.
func (c *Cluster) API(i int) *lab.Process { return c.api[i] }

func (c *Cluster) url(i int) string {
	return fmt.Sprintf("http://%s:%d", lab.HostAddress, lab.PortVolume+i)
}

// agentName of the process on a node.
const agentName = "vmthunder-node"

// StartAgent starts the agent of a node.
func (c *Cluster) StartAgent(ctx context.Context, host string) error {
	if err := c.writeConfig(host); err != nil {
		return err
	}
	n, err := c.Lab.Node(host)
	if err != nil {
		return err
	}
	// Its own copy: a node's kernel does not notice that a file of the host has changed.
	const path = "/etc/vmthunder/vmthunder.conf"
	if _, err := n.Run(ctx, "mkdir", "-p", filepath.Dir(path)); err != nil {
		return err
	}
	if err := n.PutFile(ctx, c.ConfigPath(host), path); err != nil {
		return err
	}
	_, err = n.Start(ctx, agentName, lab.Command{Argv: []string{c.Program("vmthunder-node"), "--config-file", path}})
	return err
}

// StopAgent ends the agent of a node; what it built stays.
func (c *Cluster) StopAgent(ctx context.Context, host string) error {
	n, err := c.Lab.Node(host)
	if err != nil {
		return err
	}
	_, err = n.Stop(ctx, agentName, 10*time.Second)
	return err
}

// Reboot cuts a node's power, boots it, starts its agent and waits until that has reported.
func (c *Cluster) Reboot(ctx context.Context, host string) error {
	n, err := c.Lab.Node(host)
	if err != nil {
		return err
	}
	before, err := c.bootID(ctx, host)
	if err != nil {
		return err
	}
	if err := n.Restart(ctx); err != nil {
		return err
	}
	if err := c.StartAgent(ctx, host); err != nil {
		return err
	}
	// A node that is away for a moment only was never taken for dead.
	return wait(ctx, 90*time.Second, host+" to report its new boot", func() (bool, error) {
		id, err := c.bootID(ctx, host)
		return err == nil && id != before, nil
	})
}

// bootID is what the control plane knows of a node's kernel.
func (c *Cluster) bootID(ctx context.Context, host string) (string, error) {
	nodes, err := c.Admin().Nodes(ctx)
	if err != nil {
		return "", err
	}
	for _, n := range nodes {
		if n.Host == host {
			return n.BootID, nil
		}
	}
	return "", fmt.Errorf("node %s has never reported", host)
}

// WaitNodes waits until so many nodes are alive.
func (c *Cluster) WaitNodes(ctx context.Context, count int) error {
	return wait(ctx, 90*time.Second, fmt.Sprintf("%d nodes to report", count), func() (bool, error) {
		var alive int
		nodes, err := c.Admin().Nodes(ctx)
		if err != nil {
			return false, nil //nolint:nilerr // not yet
		}
		for _, n := range nodes {
			if n.Alive {
				alive++
			}
		}
		return alive >= count, nil
	})
}

// wait polls until done says so.
func wait(ctx context.Context, limit time.Duration, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %s for %s: %w", limit, what, ctx.Err())
		case <-tick.C:
		}
	}
}

// Wait polls until done says so, for tests.
func Wait(ctx context.Context, limit time.Duration, what string, done func() (bool, error)) error {
	return wait(ctx, limit, what, done)
}

func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}
