package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vmthunder/vmthunder/devstack/lab/agent"
	"github.com/vmthunder/vmthunder/devstack/lab/nodeinit"
)

// Command describes a program to run in a node.
type Command = agent.Command

// Result is what a command left behind.
type Result = agent.Result

// Streams are the standard streams of a command.
type Streams = agent.Streams

// ExitError is a command that ended with a status other than 0.
type ExitError = agent.ExitError

// bootTimeout bounds a node's boot on a busy machine.
const bootTimeout = 90 * time.Second

// nodeModules are loaded in every node at boot.
func nodeModules() []string {
	return []string{
		"configfs", "dm_mod", "dm_snapshot", "dm_thin_pool", "dm_cache", "dm_cache_smq", "dm_multipath", "dm_round_robin", "dm_switch",
		"dm_service_time", "dm_queue_length", "dm_verity", "dm_flakey", "bcache", "loop", "sd_mod", "iscsi_tcp",
		"target_core_mod", "target_core_iblock", "target_core_file", "iscsi_target_mod", "sch_tbf", "sch_netem",
	}
}

// Node is one machine of the laboratory, running or not. Its embedded client is its
// agent: Exec, Run, Stream, Put, Get, Signal, Wait, Processes.
type Node struct {
	*agent.Client
	lab *Lab
	st  nodeState
}

// Name is the node's host name.
func (n *Node) Name() string { return n.st.Name }

// IP is the node's address, 10.77.0.N.
func (n *Node) IP() string { return nodeIP(n.st.Host) }

// Initiator is the node's iSCSI initiator name.
func (n *Node) Initiator() string { return "iqn.2026-11.org.vmthunder.lab:" + n.st.Name }

// Spec is how the node was asked for, defaults filled in.
func (n *Node) Spec() NodeSpec { return n.st.NodeSpec }

// ConsolePath is the host file with all that the node's kernel printed, boot by boot.
func (n *Node) ConsolePath() string { return filepath.Join(n.dir(), "console.log") }

// LogPath is the host file with the output of a program started with Start.
func (n *Node) LogPath(name string) string { return filepath.Join(n.dir(), "share", name+".log") }

// DiskPath is the host file behind a disk: 'a' pool, 'b' cache, 'c' state. A look only:
// the running node caches it.
func (n *Node) DiskPath(letter byte) string { return filepath.Join(n.dir(), "ubd"+string(letter)) }

// SharePath is a directory of the host that the node sees as nodeinit.ShareDir and may
// write; it survives the node.
func (n *Node) SharePath() string { return filepath.Join(n.dir(), "share") }

func (n *Node) dir() string      { return filepath.Join(n.lab.dir, "nodes", n.st.Name) }
func (n *Node) procName() string { return "node-" + n.st.Name }
func nodeIP(host int) string     { return fmt.Sprintf("10.77.0.%d", host) }

// Running says whether the node's kernel runs.
func (n *Node) Running() bool {
	_, ok := n.lab.procOf(n.procName())
	return ok
}

// Node returns a node by name.
func (l *Lab) Node(name string) (*Node, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, st := range l.st.Nodes {
		if st.Name == name {
			return l.node(st), nil
		}
	}
	return nil, fmt.Errorf("%w: %s", ErrNoNode, name)
}

// Nodes returns all nodes in the order they were added.
func (l *Lab) Nodes() []*Node {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []*Node
	for _, st := range l.st.Nodes {
		out = append(out, l.node(st))
	}
	return out
}

func (l *Lab) node(st nodeState) *Node {
	addr := net.JoinHostPort(nodeIP(st.Host), strconv.Itoa(agent.Port))
	return &Node{Client: &agent.Client{Address: addr, Dial: l.DialContext}, lab: l, st: st}
}

// AddNode makes a node and boots it.
func (l *Lab) AddNode(ctx context.Context, s NodeSpec) (*Node, error) {
	if err := l.addNodes(ctx, []NodeSpec{s}); err != nil {
		return nil, err
	}
	return l.Node(s.Name)
}

// addNodes makes nodes and boots them side by side.
func (l *Lab) addNodes(ctx context.Context, specs []NodeSpec) error {
	nodes, err := l.registerAll(specs)
	if err != nil {
		return err
	}
	return bootAll(ctx, nodes)
}

// registerAll gives nodes their addresses.
func (l *Lab) registerAll(specs []NodeSpec) ([]*Node, error) {
	var nodes []*Node
	for _, s := range specs {
		n, err := l.register(s)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

func bootAll(ctx context.Context, nodes []*Node) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, n := range nodes {
		g.Go(func() error {
			if err := n.create(ctx); err != nil {
				return fmt.Errorf("node %s: %w", n.st.Name, err)
			}
			return n.Boot(ctx)
		})
	}
	return g.Wait()
}

func (l *Lab) register(s NodeSpec) (*Node, error) {
	if err := s.fill(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.st.Nodes) >= maxNodes {
		return nil, fmt.Errorf("%w: more than %d nodes", ErrOptions, maxNodes)
	}
	for _, o := range l.st.Nodes {
		if o.Name == s.Name {
			return nil, fmt.Errorf("%w: node %s", ErrExists, s.Name)
		}
	}
	st := nodeState{NodeSpec: s, Host: firstNodeHost + len(l.st.Nodes)}
	l.st.Nodes = append(l.st.Nodes, st)
	return l.node(st), l.save()
}

// create makes what survives the node's boots: directory, disks, tap.
func (n *Node) create(ctx context.Context) error {
	if err := os.MkdirAll(n.SharePath(), 0o755); err != nil {
		return err
	}
	for letter, size := range map[byte]int64{'a': n.st.Pool, 'b': n.st.Cache, 'c': n.st.State} {
		f, err := os.OpenFile(n.DiskPath(letter), os.O_CREATE|os.O_RDWR|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		err = f.Truncate(size)
		_ = f.Close()
		if err != nil {
			return fmt.Errorf("disk %c: %w", letter, err)
		}
	}
	if err := tool(ctx, "", "mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1", "-L", "vmthunder", n.DiskPath('c')); err != nil {
		return err
	}
	return n.lab.makeTap(ctx, n.st.Host)
}

// Boot starts a node that is down and waits until its agent answers.
func (n *Node) Boot(ctx context.Context) error {
	start := time.Now()
	if err := n.boot(ctx); err != nil {
		return fmt.Errorf("boot node %s: %w", n.st.Name, err)
	}
	n.lab.progress("node %s up in %.1f s at %s", n.st.Name, time.Since(start).Seconds(), n.IP())
	return nil
}

func (n *Node) boot(ctx context.Context) error {
	if n.Running() {
		return ErrRunning
	}
	conf, err := n.writeConfig()
	if err != nil {
		return err
	}
	// A directory of its own for each boot: the kernel refuses a used umid.
	mem := filepath.Join(n.lab.st.Memory, n.st.Name)
	if err := os.RemoveAll(mem); err != nil {
		return err
	}
	if err := os.MkdirAll(mem, 0o700); err != nil {
		return err
	}
	argv := []string{
		umlProgram, "mem=" + strconv.Itoa(n.st.Memory) + "M", "umid=" + n.st.Name, "uml_dir=" + mem + "/",
		"root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "init=" + n.lab.st.Binary,
		"ubd0=" + n.DiskPath('a'), "ubd1=" + n.DiskPath('b'), "ubd2=" + n.DiskPath('c'),
		fmt.Sprintf("vec0:transport=tap,ifname=%s,depth=128,gro=1,mac=02:77:00:00:00:%02x", tapName(n.st.Host), n.st.Host),
		"con=null", "con0=fd:0,fd:1", "quiet", "panic=1", nodeinit.ConfigParam + "=" + conf, InitArg,
	}
	var offset int64
	if st, err := os.Stat(n.ConsolePath()); err == nil {
		offset = st.Size()
	}
	p, err := n.lab.startProc(spec{
		name: n.procName(), argv: argv, dir: n.dir(), log: n.ConsolePath(),
		env: cleanEnv("/root", "TMPDIR="+mem),
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, bootTimeout)
	defer cancel()
	err = waitLine(ctx, n.ConsolePath(), offset, p, func(line string) (bool, error) {
		if _, why, ok := strings.Cut(line, nodeinit.FailedLine); ok {
			return false, fmt.Errorf("node init: %s", why)
		}
		return strings.Contains(line, nodeinit.ReadyLine), nil
	})
	if err == nil {
		err = n.Ping(ctx)
	}
	if err != nil {
		_ = n.Kill(context.WithoutCancel(ctx))
		return fmt.Errorf("%w%s", err, tail(n.ConsolePath()))
	}
	return nil
}

// InitArg is the argument by which the kernel starts vmthunder-lab as process 1.
const InitArg = "node-init"

func (n *Node) writeConfig() (string, error) {
	hosts := []string{"127.0.0.1 localhost", HostAddress + " host controller"}
	for _, o := range n.lab.Nodes() {
		hosts = append(hosts, o.IP()+" "+o.Name())
	}
	c := nodeinit.Config{
		Name: n.st.Name, Address: fmt.Sprintf("%s/%d", n.IP(), networkPrefix), Initiator: n.Initiator(), Hosts: hosts,
		Modules: nodeModules(), Share: n.SharePath(), Iscsid: !n.st.NoIscsid, Tgtd: n.st.Tgtd, Overlay: max(64, n.st.Memory*2/3),
	}
	b, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	path := filepath.Join(n.dir(), "config.json")
	return path, os.WriteFile(path, b, 0o644)
}

// Kill is a power cut: SIGKILL to every process of the node. A node that is down stays
// so without an error.
func (n *Node) Kill(ctx context.Context) error {
	if err := n.lab.stopProc(ctx, n.procName(), syscall.SIGKILL, 0); err != nil {
		return fmt.Errorf("kill node %s: %w", n.st.Name, err)
	}
	return os.RemoveAll(filepath.Join(n.lab.st.Memory, n.st.Name))
}

// Restart is Kill and Boot: only the disks' content survives.
func (n *Node) Restart(ctx context.Context) error {
	if err := n.Kill(ctx); err != nil {
		return err
	}
	return n.Boot(ctx)
}

// Pause stops the node's kernel where it is (SIGSTOP), as a hung machine; Resume lets
// it go on.
func (n *Node) Pause() error { return n.signalKernel(syscall.SIGSTOP) }

// Resume ends Pause.
func (n *Node) Resume() error { return n.signalKernel(syscall.SIGCONT) }

// signalKernel leaves out the processes that run the node's user space: the kernel
// traces them, and would take their stop for a signal to the program in the node.
func (n *Node) signalKernel(sig syscall.Signal) error {
	p, ok := n.lab.procOf(n.procName())
	if !ok {
		return fmt.Errorf("signal node %s: %w", n.st.Name, ErrNotRunning)
	}
	for _, q := range n.lab.family(p) {
		if traced(q.Pid) {
			continue
		}
		if err := q.signal(sig); err != nil {
			return err
		}
	}
	return nil
}

func traced(pid int) bool {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	return err == nil && !strings.Contains(string(b), "TracerPid:\t0\n")
}

// Start starts a program in the background under a name; its output goes to
// LogPath(name) on the host, and survives the node.
func (n *Node) Start(ctx context.Context, name string, c Command) (pid int, err error) {
	pid, err = n.Client.Start(ctx, name, c, nodeinit.ShareDir+"/"+name+".log")
	if err != nil {
		return pid, fmt.Errorf("node %s: %w", n.st.Name, err)
	}
	return pid, nil
}

// Stop sends SIGTERM to a program started with Start and waits for its end, by SIGKILL
// after grace. It returns the exit status.
func (n *Node) Stop(ctx context.Context, name string, grace time.Duration) (int, error) {
	if err := n.Signal(ctx, name, syscall.SIGTERM); err != nil {
		return -1, err
	}
	gctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	code, err := n.Wait(gctx, name)
	if err == nil || ctx.Err() != nil {
		return code, err
	}
	if err := n.Signal(ctx, name, syscall.SIGKILL); err != nil {
		return -1, err
	}
	return n.Wait(ctx, name)
}

// PutFile copies a file of the host into the node, with its mode.
func (n *Node) PutFile(ctx context.Context, from, to string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	return n.Put(ctx, to, st.Mode(), f)
}

// WriteFile writes a small file in the node.
func (n *Node) WriteFile(ctx context.Context, path string, mode fs.FileMode, data string) error {
	return n.Put(ctx, path, mode, strings.NewReader(data))
}

// ReadFile reads a file of the node.
func (n *Node) ReadFile(ctx context.Context, path string) (string, error) {
	var b strings.Builder
	err := n.Get(ctx, path, &b)
	return b.String(), err
}
