//go:build lab

package clients

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/vmthunder/vmthunder/devstack/lab"
)

// command of the openstack client, in words; '…' keeps words together, {name} is what an
// earlier command of the group saved.
type command struct {
	words string
	out   string // a regular expression that the output has to match
	fails string // one that the error has to match: the command fails, as it does with Cinder
	why   string // why it fails
	save  string // name of the output, for later ones
}

// group of commands, which are of no use without those before them. Its volume API version
// is what they need; "": the client's own choice, 3.0.
type group struct {
	name, version string
	commands      []command
	clean         []string // commands that remove what may be there, if the others were not tried to the end
}

// notYet is how the product refuses what it can't do yet.
const notYet = "not supported by this backend yet"

// shell runs the client as the administrator. See testdata/osc.py.
type shell struct {
	t   *testing.T
	in  *json.Encoder
	out *bufio.Reader
}

type result struct {
	Code     int
	Out, Err string
}

func newShell(t *testing.T, l *lab.Lab) *shell {
	t.Helper()
	script, err := filepath.Abs("testdata/osc.py")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(limit(t, time.Hour), "/usr/bin/python3", "-W", "ignore", script)
	cmd.Env = append([]string{"PATH=/usr/bin:/bin", "HOME=" + t.TempDir(), "LANG=C.UTF-8"}, l.OpenStackEnv("admin")...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return &shell{t: t, in: json.NewEncoder(in), out: bufio.NewReader(out)}
}

func (s *shell) run(args ...string) result {
	s.t.Helper()
	if err := s.in.Encode(args); err != nil {
		s.t.Fatal(err)
	}
	line, err := s.out.ReadBytes('\n')
	if err != nil {
		s.t.Fatalf("openstack %s: %v", strings.Join(args, " "), err)
	}
	var r result
	if err := json.Unmarshal(line, &r); err != nil {
		s.t.Fatalf("openstack %s: %v: %s", strings.Join(args, " "), err, line)
	}
	return r
}

var wordRE = regexp.MustCompile(`'[^']*'|\S+`)

// split a command into words.
func split(s string) []string {
	words := wordRE.FindAllString(s, -1)
	for i, w := range words {
		words[i] = strings.Trim(w, "'")
	}
	return words
}

// underWay are rows that are on their way to another status.
const underWay = `
SELECT 'volume ' || id || ' ' || status FROM volumes WHERE status NOT IN ('available', 'in-use', 'reserved', 'error', 'awaiting-transfer', 'attaching', 'detaching')
UNION ALL SELECT 'snapshot ' || id || ' ' || status FROM snapshots WHERE status NOT IN ('available', 'error')`

// Every command of the client's volume group, as an administrator, on the product.
func TestOpenStackCommand(t *testing.T) {
	n := newNova(t, "admin")
	n.shareBackups(t)
	sh := newShell(t, n.lab)
	server := n.become(n.boot("for-attachments", nil, fromImage(n.image(t, lab.ImageRaw), true)), "ACTIVE")
	broken := filepath.Join(t.TempDir(), "broken.qcow2")
	if err := os.WriteFile(broken, []byte(strings.Repeat("this is no image\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	line := Line{Client: "openstack 6.0, volume commands"}
	report := &strings.Builder{}
	w := tabwriter.NewWriter(report, 0, 0, 2, ' ', 0)
	all, seen := volumeCommands(t), map[string]bool{}
	for _, g := range commandGroups() {
		saved := map[string]string{"server": server.ID, "broken": broken, "host": node1}
		gone := ""
		for _, c := range g.commands {
			args := split(c.words)
			for name, value := range saved {
				c.out = strings.ReplaceAll(c.out, "{"+name+"}", value)
				for i := range args {
					args[i] = strings.ReplaceAll(args[i], "{"+name+"}", value)
				}
			}
			seen[name(c.words, all)] = true
			if gone != "" {
				line.Skipped++
				fmt.Fprintf(w, "%s\t%s\n", c.words, "not tried, without "+gone)
				continue
			}
			if g.version != "" {
				args = append([]string{"--os-volume-api-version", g.version}, args...)
			}
			r := sh.run(args...)
			verdict, ok := judge(c, r)
			switch {
			case r.Code != 0 && strings.Contains(r.Err, notYet):
				gone, verdict = c.words, "not there yet"
				line.Skipped++
			case ok:
				line.Passed++
			default:
				line.Failed++
				line.Failures = append(line.Failures, c.words+": "+verdict)
				t.Errorf("openstack %s: %s", c.words, verdict)
			}
			fmt.Fprintf(w, "%s\t%s\n", c.words, verdict)
			if c.save != "" {
				saved[c.save] = strings.TrimSpace(r.Out)
			}
			n.wait("rest after "+c.words, func() (bool, error) { return len(n.query(underWay)) == 0, nil })
		}
		for _, words := range g.clean {
			sh.run(split(words)...)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(artefacts(t, "openstack"), "commands.txt")
	if err := os.WriteFile(file, []byte(report.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if !seen[c] {
			t.Errorf("openstack %s is not tried", c)
			line.Failed++
			line.Failures = append(line.Failures, c+": not tried")
		}
	}
	table.Add(line)
	n.remove(server.ID)
	n.gone(server.Volumes[0].ID)
	n.empty()
}

// judge a result; the verdict is a short text.
func judge(c command, r result) (verdict string, ok bool) {
	said := strings.Join(strings.Fields(r.Err+" "+r.Out), " ")
	switch {
	case r.Code == 0 && c.fails == "":
		if !regexp.MustCompile(c.out).MatchString(r.Out) {
			return fmt.Sprintf("printed %.200q, not %q", r.Out, c.out), false
		}
		return "ok", true
	case r.Code != 0 && c.fails != "" && regexp.MustCompile(c.fails).MatchString(said):
		return "refused: " + c.why, true
	case r.Code == 0:
		return fmt.Sprintf("worked, but should fail with %q", c.fails), false
	}
	return fmt.Sprintf("exit status %d: %.400s", r.Code, said), false
}

// name is the one of the commands that words begin with; "" for a command of another group.
func name(words string, commands []string) string {
	for _, c := range commands {
		if words == c || strings.HasPrefix(words, c+" ") {
			return c
		}
	}
	return ""
}

// volumeCommands are the client's commands of the volume API 3, from the entry points of its
// package.
func volumeCommands(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("/usr/lib/python3/dist-packages/python_openstackclient-*.egg-info/entry_points.txt")
	if err != nil || len(files) != 1 {
		t.Fatalf("the openstack client's entry points: %v, %v", files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	in := false
	for l := range strings.Lines(string(b)) {
		if l = strings.TrimSpace(l); strings.HasPrefix(l, "[") {
			in = l == "[openstack.volume.v3]"
		} else if n, _, ok := strings.Cut(l, " = "); ok && in {
			out = append(out, strings.ReplaceAll(n, "_", " "))
		}
	}
	slices.SortFunc(out, func(a, b string) int { return len(b) - len(a) }) // the longest first, see name
	if len(out) < 50 {
		t.Fatalf("only %d volume commands", len(out))
	}
	return out
}
