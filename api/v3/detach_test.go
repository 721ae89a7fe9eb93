package v3_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"

	v3 "github.com/vmthunder/vmthunder/api/v3"
	"github.com/vmthunder/vmthunder/db/model"
)

// TestDetachRule is the rule against CVE-2023-2088 (https://bugs.launchpad.net/nova/+bug/2004555): what a server of
// Nova uses is detached by Nova only, who shows a service token. Each call that detaches,
// each thing that Nova may say, with and without the token, of whatever role.
func TestDetachRule(t *testing.T) {
	const ours, other = "ours", "other"
	calls := []struct{ name, method, path, body string }{
		{"delete", "DELETE", "/attachments/{taken}", ""},
		{"os-detach", "POST", "/volumes/{volume}/action", `{"os-detach":{}}`},
		{"os-detach of it", "POST", "/volumes/{volume}/action", `{"os-detach":{"attachment_id":"{taken}"}}`},
		{"os-terminate_connection", "POST", "/volumes/{volume}/action", `{"os-terminate_connection":{"connector":{"host":"n1"}}}`},
		{"os-terminate_connection of all", "POST", "/volumes/{volume}/action", `{"os-terminate_connection":{"connector":null}}`},
		{"os-force_detach", "POST", "/volumes/{volume}/action", `{"os-force_detach":{}}`},
		{"os-force_detach of it", "POST", "/volumes/{volume}/action", `{"os-force_detach":{"attachment_id":"{taken}"}}`},
	}
	cases := []struct {
		name      string
		server    bool // the attachment has one
		connected bool
		nova      func(*cloud) // what Nova says
		status    int          // without a service token
	}{
		{"Nova uses it", true, true, func(c *cloud) { c.uses(ours) }, 409},
		{"Nova uses another", true, true, func(c *cloud) { c.uses(other) }, 0},
		{"Nova knows no such server", true, true, func(*cloud) {}, 0},
		{"Nova is down", true, true, func(c *cloud) { c.nova.Err = model.ErrUnavailable }, 503},
		{"Nova says what nobody understands", true, true, func(c *cloud) { c.nova.Err = errors.New("what") }, 409},
		{"it has no connection yet", true, false, func(c *cloud) { c.uses(ours) }, 0},
		{"it is of no server", false, true, func(c *cloud) { c.uses(ours) }, 0},
	}
	for _, do := range calls {
		for _, on := range cases {
			for _, token := range []string{"", "nova"} {
				for _, who := range []string{"member@A", "admin@A"} {
					if who != "admin@A" && strings.HasPrefix(do.name, "os-force") {
						continue // administrators only, whatever Nova says
					}
					c := newCloud(t)
					c.attach(on.server, on.connected)
					on.nova(c)
					rec := c.ask(who, do.method, do.path, do.body, "X-Service-Token", token)
					want := on.status
					if token != "" || want == 0 {
						want = map[bool]int{true: 200, false: 202}[do.method == "DELETE"]
					}
					left := c.ask("admin@A", "GET", "/attachments/{taken}", "").Code == 200
					gone := want < 300 && (on.connected || !strings.HasPrefix(do.name, "os-terminate"))
					if rec.Code != want || left == gone {
						t.Errorf("%s by %s, service token %q, %s: %d, want %d; the attachment is there: %v: %s", do.name, who, token, on.name,
							rec.Code, want, left, rec.Body)
					}
					if want == 409 && !strings.Contains(rec.Body.String(),
						"ConflictNovaUsingAttachment: Detach volume from instance "+c.names["server"]+" using the Compute API") {
						t.Errorf("%s: %s", do.name, rec.Body)
					}
				}
			}
		}
	}
}

// uses has Nova say that the server uses the volume through one attachment.
func (c *cloud) uses(which string) {
	id := uuid.NewString()
	if which == "ours" {
		id = c.names["taken"]
	}
	c.nova.Uses[c.names["server"]+" "+c.names["volume"]] = id
}

func (c *cloud) attach(server, connected bool) {
	c.t.Helper()
	body := `{"attachment":{"volume_uuid":"{volume}"`
	if server {
		body += `,"instance_uuid":"{server}"`
	}
	if connected {
		body += `,"connector":{"host":"n1"}`
	}
	c.make("taken", "member@A", "/attachments", body+"}}", "attachment")
}

// TestDetachOfSomethingElse: an attachment that is not the volume's is not taken away by
// its name, and one that nobody knows is no reason to believe that no server uses the volume.
func TestDetachOfSomethingElse(t *testing.T) {
	c := newCloud(t)
	c.names["nothing"] = uuid.NewString()
	for _, r := range []struct {
		token, id string
		status    int
		text      string
	}{
		{"", "{attachment}", 400, "Mismatched volume and attachment"}, {"nova", "{attachment}", 400, "Mismatched volume and attachment"},
		{"", "{nothing}", 409, "Detach volume from instance  using the Compute API"}, {"nova", "{nothing}", 404, "could not be found"},
	} {
		rec := c.ask("member@A", "POST", "/volumes/{volume}/action", `{"os-detach":{"attachment_id":"`+r.id+`"}}`, "X-Service-Token", r.token)
		if rec.Code != r.status || !strings.Contains(rec.Body.String(), r.text) {
			t.Errorf("%s with service token %q: %d %s", r.id, r.token, rec.Code, rec.Body)
		}
	}
}

// TestDetachWithoutNova: where no Nova can be asked, a service token alone helps.
func TestDetachWithoutNova(t *testing.T) {
	for token, want := range map[string]int{"": 409, "nova": 200} {
		c := newCloud(t, func(cfg *v3.Config) { cfg.Nova = nil })
		c.attach(true, true)
		if rec := c.ask("admin@A", "DELETE", "/attachments/{taken}", "", "X-Service-Token", token); rec.Code != want {
			t.Errorf("service token %q: %d %s", token, rec.Code, rec.Body)
		}
	}
}
