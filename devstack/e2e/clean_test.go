//go:build lab

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/devstack/cluster"
)

// leftovers prints, one a line, what stands on a node that has no volume and no image. It
// looks in the kernel and on the disk and asks the product nothing.
const leftovers = `
dmsetup ls 2>/dev/null | awk '/^No devices/ {next} $1 !~ /^vmthunder-pool/ {print "dm " $1}'
command -v thin_ls >/dev/null || echo "no thin_ls here: install thin-provisioning-tools"
if dmsetup message vmthunder-pool 0 reserve_metadata_snap 2>/dev/null; then
  thin_ls --no-headers -m -o DEV /dev/mapper/vmthunder-pool-meta | sed 's/^/thin device /'
  dmsetup message vmthunder-pool 0 release_metadata_snap
fi
for d in /sys/block/loop*/loop/backing_file; do
  if read -r f <$d 2>/dev/null; then
    case "$f" in *.img) ;; *) echo "loop $d $f" ;; esac
  fi
done
for d in /sys/block/bcache*; do [ -e "$d" ] && echo "bcache $d"; done
for d in /sys/fs/bcache/*/bdev*; do [ -e "$d" ] && echo "bcache set has $d"; done
for d in /sys/class/iscsi_session/*; do [ -e "$d" ] && read -r n <$d/targetname && echo "session $n"; done
for d in /sys/block/sd*; do [ -e "$d" ] && echo "disk $d"; done
for d in /sys/kernel/config/target/iscsi/iqn*; do [ -e "$d" ] && echo "target $d"; done
for d in /sys/kernel/config/target/core/*/iqn*; do [ -e "$d" ] && echo "backstore $d"; done
if [ -e /var/run/tgtd/socket.0 ] || [ -e /run/tgtd/socket.0 ] || pidof tgtd >/dev/null; then tgtadm --lld iscsi --mode target --op show | sed -n 's/^Target [0-9]*: /tgt target /p'; fi
for d in /etc/iscsi/nodes/iqn* /var/lib/iscsi/nodes/iqn*; do [ -e "$d" ] && echo "record $d"; done
for d in /var/lib/vmthunder/images/* /var/lib/vmthunder/images/upload/*; do [ -f "$d" ] && echo "file $d"; done
true
`

// rowsLeft finds rows that only volumes and images have.
const rowsLeft = `
SELECT 'volume ' || id || ' ' || status FROM volumes
UNION ALL SELECT 'snapshot ' || id || ' ' || status FROM snapshots
UNION ALL SELECT 'group ' || id || ' ' || status FROM volume_groups
UNION ALL SELECT 'group snapshot ' || id || ' ' || status FROM group_snapshots
UNION ALL SELECT 'dropped thin device ' || thin_id || ' at ' || host FROM dropped_thins
UNION ALL SELECT 'unmanaged ' || kind || ' ' || id FROM unmanaged
UNION ALL SELECT 'task ' || kind || ' ' || status || ' at ' || host FROM tasks
UNION ALL SELECT 'attachment ' || id || ' ' || attach_status FROM attachments
UNION ALL SELECT 'image ' || id || ' ' || status FROM images
UNION ALL SELECT 'member ' || host || ' of ' || image_id || ' ' || state FROM tree_members
UNION ALL SELECT 'job ' || kind || ' ' || subject || ' ' || coalesce(error, '') FROM jobs`

// clean fails the test unless the whole site comes to be empty: rows, kernels, disks, and
// no agent that sees what it does not know.
func (s *site) clean(t *testing.T) {
	t.Helper()
	var left []string
	var err error
	begin := time.Now()
	err = cluster.Wait(limit(t, 2*time.Minute), 60*time.Second, "an empty site", func() (bool, error) {
		left = s.rows(t, rowsLeft)
		left = append(left, s.rows(t, `SELECT host || ' reports ' || problems::text FROM nodes WHERE jsonb_array_length(coalesce(problems, '[]')) > 0`)...)
		if len(left) > 0 {
			return false, nil
		}
		for _, n := range s.lab.Nodes() {
			out, err := s.tryRun(t, n.Name(), leftovers)
			if err != nil {
				return false, fmt.Errorf("look for what is left on %s: %w", n.Name(), err)
			}
			for line := range strings.Lines(out) {
				left = append(left, n.Name()+": "+strings.TrimSpace(line))
			}
		}
		if len(left) == 0 {
			left, err = s.ills(t)
		}
		return len(left) == 0, err
	})
	if err != nil {
		t.Errorf("%v: left are\n  %s", err, strings.Join(left, "\n  "))
	} else {
		t.Logf("empty after %.1f s", time.Since(begin).Seconds())
	}
}

// ills are what `vmthunder doctor` finds wrong, one a line; infos are nothing wrong.
func (s *site) ills(t testing.TB) ([]string, error) {
	t.Helper()
	var d struct {
		Findings []struct{ Severity, Code, Kind, ID, Node, Text string }
	}
	if err := s.admin.Do(limit(t, time.Minute), http.MethodGet, "/vmthunder/doctor", nil, &d); err != nil {
		return nil, err
	}
	var out []string
	for _, f := range d.Findings {
		if f.Severity != "info" {
			out = append(out, fmt.Sprintf("doctor: %s %s: %s %s at %s: %s", f.Severity, f.Code, f.Kind, f.ID, f.Node, f.Text))
		}
	}
	return out, nil
}

// healthy waits until nothing is wrong, as the product itself sees it.
func (s *site) healthy(t testing.TB) {
	t.Helper()
	var ills []string
	err := cluster.Wait(limit(t, 2*time.Minute), time.Minute, "nothing to be wrong", func() (ok bool, err error) {
		ills, err = s.ills(t)
		return len(ills) == 0, err
	})
	if err != nil {
		t.Errorf("%v: %s", err, strings.Join(ills, "\n  "))
	}
}

// logFiles are the product's logs, by name.
func (s *site) logFiles() map[string]string {
	out := map[string]string{}
	for i := range 2 {
		out[fmt.Sprintf("api %d", i)] = s.c.API(i).LogPath()
	}
	for _, n := range s.lab.Nodes() {
		out["agent "+n.Name()] = n.LogPath("vmthunder-node")
	}
	return out
}

// logEnds is where each log ends now.
func (s *site) logEnds() map[string]int64 {
	out := map[string]int64{}
	for name, path := range s.logFiles() {
		if st, err := os.Stat(path); err == nil {
			out[name] = st.Size()
		}
	}
	return out
}

// logLines are the lines that a log has got since.
func (s *site) logLines(name string, from map[string]int64) []string {
	b, err := os.ReadFile(s.logFiles()[name])
	if err != nil {
		return []string{err.Error()}
	}
	return strings.Split(strings.TrimSpace(string(b[min(from[name], int64(len(b))):])), "\n")
}

// showLogs prints the last of what every program has said since the test began, without
// requests that only asked.
func (s *site) showLogs(t *testing.T, from map[string]int64) {
	t.Helper()
	names := make([]string, 0, 8)
	for name := range s.logFiles() {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		lines := slices.DeleteFunc(s.logLines(name, from), func(l string) bool {
			return l == "" || strings.Contains(l, "msg=request") && strings.Contains(l, "method=GET")
		})
		if len(lines) == 0 {
			continue
		}
		t.Logf("--- %s\n%s", name, strings.Join(lines[max(0, len(lines)-25):], "\n"))
	}
}
