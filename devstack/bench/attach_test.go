package bench

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	testVolume = "dd81b173-a4f9-4528-ab0c-0968113259d8"
	testAgent  = `{"level":"info","msg":"agent starts: bcache is the best available","node":"node1"}
connected
{"level":"debug","msg":"looked","node":"node1","took":2064128}
{"command":"iscsiadm -m node -T iqn.x -p 10.77.0.11:3260 --login","failed":false,"level":"debug","msg":"executed","took":40000000}
{"command":"modprobe --quiet -- dm-zero","failed":true,"level":"debug","msg":"executed","took":10000000}
{"level":"debug","msg":"step ended","step":"log in iqn.2014-05.org.vmthunder:origin:image-1 at 10.77.0.11:3260","took":45000000}
{"level":"debug","msg":"step ended","step":"create thin of volume dd81b173-a4f9-4528-ab0c-0968113259d8","took":2500000}
{"level":"debug","msg":"step ended","step":"activate thin vmthunder-volume-dd81b173-a4f9-4528-ab0c-0968113259d8-cow","took":3000000}
{"level":"debug","msg":"step ended","step":"make device vmthunder-volume-dd81b173-a4f9-4528-ab0c-0968113259d8-base","took":1000000}
{"level":"debug","msg":"step ended","step":"make device vmthunder-volume-dd81b173-a4f9-4528-ab0c-0968113259d8","took":1500000}
{"level":"debug","msg":"step ended","step":"make path vmthunder-image-1-path","took":1000000}
{"level":"debug","msg":"document applied","took":60000000,"volumes":["dd81b173-a4f9-4528-ab0c-0968113259d8"]}
{"level":"debug","msg":"looked","node":"node1","took":1`
	testControl = `{"level":"debug","msg":"document sent and answered","node":"node1","took":64000000,"volumes":["dd81b173-a4f9-4528-ab0c-0968113259d8"]}
`
)

func TestDissect(t *testing.T) {
	agent, _ := parseLog([]byte(testAgent))
	control, _ := parseLog([]byte(testControl))
	a, err := dissect(testVolume, agent, control)
	if err != nil {
		t.Fatal(err)
	}
	steps := map[string]float64{
		"log in": 45, "create thin": 2.5, "activate thin (cow)": 3, "make device (base)": 1, "make device (volume)": 1.5, "make path": 1,
	}
	if !maps.Equal(a.steps, steps) {
		t.Errorf("steps %v", a.steps)
	}
	if !maps.Equal(a.commands, map[string]int{"iscsiadm": 1, "modprobe": 1}) || a.executed != 50 {
		t.Errorf("commands %v in %v ms", a.commands, a.executed)
	}
	if a.bus != 4 || a.agent != 6 {
		t.Errorf("bus %v, agent %v ms", a.bus, a.agent)
	}
	x := traced{attached: attached{reserve: 10, connect: 80, complete: 5, read: 5}, anatomy: a}
	if got := (traces{x, x}).share(); got[0] != 50 {
		t.Errorf("share %v", got)
	}
	if got, want := (traces{x, x}).programs(), "iscsiadm ×2, modprobe ×2 in 2 attaches, 25 ms each on average"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if _, err := dissect("another", agent, control); err == nil {
		t.Error("a volume that the logs don't know was dissected")
	}
}

// A line that is not whole yet belongs to the next look, and so does what follows the line
// that was waited for.
func TestLogTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(testAgent)
	tail := logTail{path: path}
	lines, err := tail.upTo(t.Context(), logApplied, testVolume)
	if err != nil || len(lines) != 12 || lines[len(lines)-1].Message != logApplied {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	more := `}
{"level":"debug","msg":"document applied","took":1,"volumes":["b"]}
`
	write(testAgent + more)
	if lines, err = tail.upTo(t.Context(), logApplied, "b"); err != nil || len(lines) != 2 || lines[0].Message != "looked" {
		t.Errorf("%+v, %v", lines, err)
	}
}

func TestParseReaped(t *testing.T) {
	stat := "99 (vm node) ) S 1 99 0 0 -1 4194560 1466 4321 12 0 9 5 0 0 20 0 8 0 226 1275850752"
	if n, err := parseReaped(stat); err != nil || n != 4321 {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := parseReaped("99 (x"); err == nil {
		t.Error("half a line was read")
	}
	own, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseReaped(strings.TrimSpace(string(own))); err != nil {
		t.Error(err)
	}
}
