package nodeinit

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmthunder/vmthunder/devstack/lab/agent"
)

// AgentArg is the argument by which the program that calls Main starts RunAgent.
const AgentArg = "node-agent"

// Main is process 1. It does not return unless it fails.
func Main(ctx context.Context) error {
	cfg, err := setup(ctx)
	if err != nil {
		fmt.Println(FailedLine + err.Error())
		unix.Sync()
		_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
		return err
	}
	a := exec.Command("/proc/self/exe", AgentArg) //nolint:noctx // lives as long as the node
	a.Stdout, a.Stderr = os.Stdout, os.Stderr
	a.Dir = "/"
	if err := a.Start(); err != nil {
		return fmt.Errorf("start agent of %s: %w", cfg.Name, err)
	}
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, 0, nil)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("reap: %w", err)
		}
		if pid == a.Process.Pid && (ws.Exited() || ws.Signaled()) {
			fmt.Println(FailedLine + "the agent ended")
			unix.Sync()
			return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
		}
	}
}

// RunAgent serves the agent on all addresses of the node.
func RunAgent(ctx context.Context) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", ":"+strconv.Itoa(agent.Port))
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	fmt.Println(ReadyLine)
	var s agent.Server
	return s.Serve(ctx, l)
}

func setup(ctx context.Context) (Config, error) {
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return Config{}, fmt.Errorf("mount /proc: %w", err)
	}
	cfg, err := readConfig()
	if err != nil {
		return cfg, err
	}
	mods, err := openModules()
	if err != nil {
		return cfg, err
	}
	if err := mods.load("overlay"); err != nil {
		return cfg, err
	}
	if err := buildRoot(cfg); err != nil {
		return cfg, err
	}
	for k, v := range map[string]string{
		"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root",
		"LANG": "C.UTF-8", "TZ": "UTC", "TERM": "dumb",
		// Nobody answers device-mapper's udev cookies here.
		"DM_DISABLE_UDEV": "1",
	} {
		if err := os.Setenv(k, v); err != nil {
			return cfg, err
		}
	}
	if err := identity(cfg); err != nil {
		return cfg, err
	}
	if err := quietKernel(); err != nil {
		return cfg, err
	}
	if err := network("vec0", cfg.Address); err != nil {
		return cfg, err
	}
	if err := modules(mods, cfg.Modules); err != nil {
		return cfg, err
	}
	// configfs is a module: only now can it be mounted.
	if err := unix.Mount("configfs", "/sys/kernel/config", "configfs", 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
		return cfg, fmt.Errorf("mount configfs: %w", err)
	}
	if err := mountState(); err != nil {
		return cfg, err
	}
	if cfg.Iscsid {
		if err := run(ctx, "iscsid"); err != nil {
			return cfg, err
		}
	}
	if cfg.Tgtd {
		if err := run(ctx, "tgtd"); err != nil {
			return cfg, err
		}
	}
	return cfg, nil
}

// quietKernel keeps the kernel from starting /sbin/hotplug, which is not there, for each
// event of a device: this kernel is built to, those of today's distributions are not, and an
// attach of a volume is a dozen events.
func quietKernel() error {
	err := os.WriteFile("/sys/kernel/uevent_helper", []byte("\n"), 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

type mount struct{ source, target, fstype, data string }

// buildRoot lays a writable tmpfs over the host's root and moves there.
func buildRoot(cfg Config) error {
	size := "size=" + strconv.Itoa(cfg.Overlay) + "m"
	if err := unix.Mount("tmpfs", "/mnt", "tmpfs", 0, size); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	for _, d := range []string{"/mnt/up", "/mnt/wk", "/mnt/root"} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	const root = "/mnt/root"
	if err := unix.Mount("overlay", root, "overlay", 0, "lowerdir=/,upperdir=/mnt/up,workdir=/mnt/wk"); err != nil {
		return fmt.Errorf("mount overlay: %w", err)
	}
	for _, m := range []mount{
		{"proc", "/proc", "proc", ""},
		{"sysfs", "/sys", "sysfs", ""},
		{"devtmpfs", "/dev", "devtmpfs", "mode=755"},
		{"devpts", "/dev/pts", "devpts", "mode=620,ptmxmode=666"},
		{"tmpfs", "/dev/shm", "tmpfs", ""},
		{"tmpfs", "/run", "tmpfs", "mode=755"},
		{"tmpfs", "/tmp", "tmpfs", ""},
		{"cgroup2", "/sys/fs/cgroup", "cgroup2", ""},
		{"debugfs", "/sys/kernel/debug", "debugfs", ""},
		{"hostfs", ShareDir, "hostfs", cfg.Share},
	} {
		if m.target == ShareDir && cfg.Share == "" {
			continue
		}
		at := root + m.target
		if err := os.MkdirAll(at, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			if m.fstype == "debugfs" || m.fstype == "cgroup2" {
				continue
			}
			return err
		}
		if err := unix.Mount(m.source, at, m.fstype, 0, m.data); err != nil {
			if m.fstype == "debugfs" || m.fstype == "cgroup2" {
				continue // useful, not needed
			}
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	if err := os.Chdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot to the node's root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the host's root: %w", err)
	}
	return os.Chdir("/")
}

// identity gives the node its own name and its own pieces of /etc.
func identity(cfg Config) error {
	if err := unix.Sethostname([]byte(cfg.Name)); err != nil {
		return fmt.Errorf("set host name: %w", err)
	}
	for _, d := range []string{"/run/lock", "/run/user", "/etc/target", "/etc/iscsi", "/var/lock", "/var/lib/vmthunder"} {
		if err := os.MkdirAll(d, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	files := map[string]string{
		"/etc/hostname":                  cfg.Name + "\n",
		"/etc/hosts":                     strings.Join(cfg.Hosts, "\n") + "\n",
		"/etc/iscsi/initiatorname.iscsi": "InitiatorName=" + cfg.Initiator + "\n",
		"/etc/machine-id":                machineID(cfg.Name) + "\n",
		"/etc/resolv.conf":               "",
	}
	if conf, err := os.ReadFile("/etc/iscsi/iscsid.conf"); err == nil {
		files["/etc/iscsi/iscsid.conf"] = iscsidConf(string(conf))
	}
	for path, text := range files {
		// Remove first: some are links to places that do not exist here.
		_ = os.Remove(path)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// machineID derives the 32 hex digits of machine-id(5) from the node's name, so that
// it is the node's own and the same after each boot.
func machineID(name string) string {
	var a, b uint64 = 0xcbf29ce484222325, 0x9e3779b97f4a7c15
	for _, c := range []byte(name) {
		a = (a ^ uint64(c)) * 0x100000001b3
		b = (b + uint64(c)) * 0xff51afd7ed558ccd
	}
	return fmt.Sprintf("%016x%016x", a, b)
}

// iscsidConf sets the timeouts with which a lost parent is noticed in about 3 s.
func iscsidConf(conf string) string {
	want := map[string]string{
		"node.session.timeo.replacement_timeout": "2",
		"node.conn[0].timeo.noop_out_interval":   "1",
		"node.conn[0].timeo.noop_out_timeout":    "1",
		"node.startup":                           "manual",
		"node.conn[0].timeo.login_timeout":       "5",
		"node.session.initial_login_retry_max":   "2",
		"iscsid.startup":                         "",
		"iscsid.safe_logout":                     "",
	}
	var out []string
	for line := range strings.Lines(conf) {
		key, _, ok := strings.Cut(line, "=")
		if _, mine := want[strings.TrimSpace(key)]; ok && mine {
			continue
		}
		out = append(out, strings.TrimRight(line, "\n"))
	}
	for _, k := range []string{
		"node.startup", "node.session.timeo.replacement_timeout", "node.conn[0].timeo.noop_out_interval",
		"node.conn[0].timeo.noop_out_timeout", "node.conn[0].timeo.login_timeout", "node.session.initial_login_retry_max",
	} {
		out = append(out, k+" = "+want[k])
	}
	return strings.Join(out, "\n") + "\n"
}

// modules loads kernel modules, and shows their folder where modprobe looks, for those
// that are wanted later.
func modules(t moduleTree, names []string) error {
	if err := os.MkdirAll("/lib/modules", 0o755); err != nil {
		return err
	}
	link := filepath.Join("/lib/modules", filepath.Base(t.dir))
	if err := os.Symlink(t.dir, link); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("show the kernel's modules: %w", err)
	}
	for _, n := range names {
		if err := t.load(n); err != nil {
			fmt.Println("vmthunder-lab:", err) // another kernel may lack one; its users will say so
		}
	}
	return nil
}

// mountState mounts the node's ext4 disk and puts open-iscsi's database on it, which a
// real machine also finds again after a power cut.
func mountState() error {
	if _, err := os.Stat("/dev/ubdc"); err != nil {
		return nil //nolint:nilerr // a node without disks
	}
	if err := unix.Mount("/dev/ubdc", StateDir, "ext4", unix.MS_NOATIME, ""); err != nil {
		return fmt.Errorf("mount %s: %w", StateDir, err)
	}
	for _, d := range []string{"nodes", "send_targets", "ifaces", "static", "isns"} {
		at, on := filepath.Join("/etc/iscsi", d), filepath.Join(StateDir, ".iscsi", d)
		if err := os.RemoveAll(at); err != nil { // what the host has is not this node's
			return err
		}
		for _, p := range []string{at, on} {
			if err := os.MkdirAll(p, 0o700); err != nil {
				return err
			}
		}
		if err := unix.Mount(on, at, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s: %w", at, err)
		}
	}
	return nil
}

func run(ctx context.Context, argv ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("start %s: %w", argv[0], err)
	}
	return nil
}
