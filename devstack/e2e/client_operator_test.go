//go:build lab

package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

// The operator's command: warm, release, tree, node show, volume where.
func TestClientOperator(t *testing.T) {
	x := extendedCommand(t)
	img := x.image(t, 64*mib)
	vmthunder := func(out any, args ...string) string {
		t.Helper()
		if out != nil {
			args = append(args, "-o", "json")
		}
		text, err := x.c.Command(limit(t, 2*time.Minute), "vmthunder", args...)
		if err != nil {
			t.Fatalf("vmthunder %s: %v: %s", strings.Join(args, " "), err, text)
		}
		if i := strings.IndexAny(text, "{["); out != nil {
			if i < 0 || json.Unmarshal([]byte(text[i:]), out) != nil { // before it: the import's progress, on stderr
				t.Fatalf("vmthunder %s: %s", strings.Join(args, " "), text)
			}
		}
		return text
	}
	type member struct {
		Host   string
		Pinned bool
		State  string
	}
	var tree struct {
		Image   struct{ Status string }
		Members []member
	}
	// Nobody has used the image yet: it is imported first.
	vmthunder(&tree, "image", "warm", img.id, n1, n2)
	if tree.Image.Status != "active" || len(tree.Members) != 3 {
		t.Errorf("warm: %+v", tree)
	}
	until(t, time.Minute, "the stacks to stand", func() (bool, error) {
		vmthunder(&tree, "tree", img.id)
		return !slices.ContainsFunc(tree.Members, func(m member) bool { return m.State != "active" || m.Pinned != (m.Host != origin) }), nil
	})
	for _, n := range []string{n1, n2} {
		if out := x.run(t, n, "dmsetup ls"); !strings.Contains(out, img.id) {
			t.Errorf("nothing of the image stands on %s:\n%s", n, out)
		}
	}
	if out, err := x.c.Command(limit(t, time.Minute), "vmthunder", "image", "warm", img.id, n1, "nowhere"); err == nil || !strings.Contains(out, "node nowhere is not known") {
		t.Errorf("warm nowhere: %v: %s", err, out)
	}

	vol := x.site.create(t, img.id)
	var at struct {
		Home, HomeState string
		ImageID         string `json:"image_id"`
		Way             []string
		Attached        []struct{ Host, Connection string }
	}
	if text := vmthunder(nil, "volume", "where", vol); !strings.Contains(text, "none yet") {
		t.Errorf("before the first attachment:\n%s", text)
	}
	a := x.attach(t, vol, n1)
	vmthunder(&at, "volume", "where", t.Name()) // by name
	if at.Home != n1 || at.ImageID != img.id || len(at.Way) < 2 || at.Way[0] != n1 || at.Way[len(at.Way)-1] != origin ||
		len(at.Attached) != 1 || at.Attached[0].Host != n1 || at.Attached[0].Connection != "local" {
		t.Errorf("where: %+v", at)
	}
	text := vmthunder(nil, "volume", "where", vol)
	if !strings.Contains(text, n1+" (up)") || !strings.Contains(text, " ← "+origin) {
		t.Errorf("where:\n%s", text)
	}
	x.drop(t, a)
	if out, err := x.c.Command(limit(t, time.Minute), "vmthunder", "volume", "where", vol); err == nil || !strings.Contains(out, "could not be found") {
		t.Errorf("where is what is gone: %v: %s", err, out)
	}
	vmthunder(&tree, "tree", img.id)
	if len(tree.Members) != 3 {
		t.Errorf("after the last volume: %+v", tree.Members)
	}

	var node struct {
		Host, Initiator string
		Alive, Origin   bool
	}
	vmthunder(&node, "node", "show", n1)
	if node.Host != n1 || !node.Alive || node.Origin || node.Initiator != x.node(t, n1).Initiator() {
		t.Errorf("node show: %+v", node)
	}
	if text := vmthunder(nil, "node", "show", origin); !strings.Contains(text, "room for images") {
		t.Errorf("node show:\n%s", text)
	}
	if out, err := x.c.Command(limit(t, time.Minute), "vmthunder", "node", "show", "nowhere"); err == nil || !strings.Contains(out, "no node nowhere") {
		t.Errorf("node show nowhere: %v: %s", err, out)
	}
	vmthunder(nil, "image", "release", img.id, n1)
	until(t, time.Minute, n1+" to have left", func() (bool, error) {
		vmthunder(&tree, "tree", img.id)
		return len(tree.Members) == 2, nil
	})
	vmthunder(nil, "image", "release", img.id, n2)
}
