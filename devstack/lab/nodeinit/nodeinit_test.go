package nodeinit

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseCmdline(t *testing.T) {
	if got := parseCmdline("mem=256M root=/dev/root vmthunder_lab_config=/a/b.json quiet\n"); got != "/a/b.json" {
		t.Errorf("got %q", got)
	}
	if got := parseCmdline("xvmthunder_lab_config=/a"); got != "" {
		t.Errorf("got %q", got)
	}
}

func TestParseModulesDep(t *testing.T) {
	m := parseModulesDep("/m", "kernel/drivers/md/dm-thin-pool.ko: kernel/drivers/md/dm-bio-prison.ko kernel/drivers/md/dm-mod.ko\nkernel/fs/overlayfs/overlay.ko.xz:\n\njunk\n")
	if m.path["dm_thin_pool"] != "kernel/drivers/md/dm-thin-pool.ko" || m.path["overlay"] != "kernel/fs/overlayfs/overlay.ko.xz" || len(m.path) != 2 {
		t.Errorf("paths %v", m.path)
	}
	if d := cmp.Diff([]string{"kernel/drivers/md/dm-bio-prison.ko", "kernel/drivers/md/dm-mod.ko"}, m.deps["dm_thin_pool"]); d != "" {
		t.Error(d)
	}
	if err := m.load("no-such"); err == nil {
		t.Error("a module that does not exist was loaded")
	}
}

func TestIscsidConf(t *testing.T) {
	got := iscsidConf("# comment = kept\niscsid.startup = /bin/systemctl start iscsid.socket\nnode.startup = automatic\nnode.session.timeo.replacement_timeout = 120\nnode.leading_login = No\n")
	for _, want := range []string{"# comment = kept\n", "node.startup = manual\n", "node.session.timeo.replacement_timeout = 2\n", "node.leading_login = No\n"} {
		if strings.Count(got, want) != 1 {
			t.Errorf("%q is not there once:\n%s", want, got)
		}
	}
	for _, gone := range []string{"automatic", "120", "systemctl"} {
		if strings.Contains(got, gone) {
			t.Errorf("%q is still there:\n%s", gone, got)
		}
	}
}

func TestMachineID(t *testing.T) {
	a, b := machineID("node1"), machineID("node2")
	if len(a) != 32 || a == b || a != machineID("node1") || strings.Trim(a, "0123456789abcdef") != "" {
		t.Errorf("%q %q", a, b)
	}
}
