//go:build lab

package clients

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	_ "github.com/lib/pq" // the driver of sqlx.Connect

	"github.com/vmthunder/vmthunder/devstack/cluster"
	"github.com/vmthunder/vmthunder/devstack/lab"
)

type object = map[string]any

// nova is a user of the laboratory's Nova, and an eye on what that does to the product.
type nova struct {
	*site
	t     *testing.T
	user  string
	token string
	rows  *sqlx.DB
}

// newNova starts Nova, if it does not run yet, and sweeps away what earlier runs and failed
// tests have left.
func newNova(t *testing.T, user string) *nova {
	t.Helper()
	s := current(t)
	s.need(t, lab.Placement, lab.Neutron, lab.Nova)
	rows, err := sqlx.Connect("postgres", s.lab.DatabaseURL("vmthunder"))
	if err != nil {
		t.Fatal(err)
	}
	n := &nova{site: s, t: t, user: user, rows: rows}
	if n.token, err = s.lab.Token(limit(t, time.Minute), user, user); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rows.Close() })
	n.as("admin").sweep()
	return n
}

// as is the same for another user.
func (n *nova) as(user string) *nova {
	n.t.Helper()
	c := *n
	c.user = user
	var err error
	if c.token, err = n.lab.Token(limit(n.t, time.Minute), user, user); err != nil {
		n.t.Fatal(err)
	}
	return &c
}

// answer of a service.
type answer struct {
	status int
	body   string
}

// send sends a request to a service, with the user's token alone.
func (n *nova) send(method, url, revision string, in any) answer {
	n.t.Helper()
	var body io.Reader = http.NoBody
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			n.t.Fatal(err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(limit(n.t, 2*time.Minute), method, url, body)
	if err != nil {
		n.t.Fatal(err)
	}
	req.Header.Set("X-Auth-Token", n.token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("OpenStack-API-Version", revision)
	resp, err := n.lab.HTTPClient().Do(req)
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	return answer{resp.StatusCode, string(b)}
}

// revision of the compute API that the tests speak where they need no other.
const revision = "compute 2.90"

// compute sends a request to Nova, decodes the answer into out and fails the test unless it
// is a good one.
func (n *nova) compute(method, path string, in, out any) {
	n.t.Helper()
	a := n.send(method, n.lab.NovaURL()+path, revision, in)
	if a.status >= http.StatusBadRequest {
		n.t.Fatalf("%s %s: %d: %s", method, path, a.status, a.body)
	}
	if out != nil {
		if err := json.Unmarshal([]byte(a.body), out); err != nil {
			n.t.Fatalf("%s %s: %v: %s", method, path, err, a.body)
		}
	}
}

// volumes is a client of the product as this user.
func (n *nova) volumes() *cluster.Client { return n.c.Client(0, n.user, n.user) }

// server as Nova shows it.
type server struct {
	ID, Name, Status, Description string

	Host    string `json:"OS-EXT-SRV-ATTR:host"` // for the administrator only
	Fault   struct{ Message, Details string }
	Volumes []struct{ ID string } `json:"os-extended-volumes:volumes_attached"`
}

func (n *nova) server(id string) server {
	n.t.Helper()
	var out struct{ Server server }
	n.as("admin").compute(http.MethodGet, "/servers/"+id, nil, &out)
	return out.Server
}

// wait polls; a machine under load may take minutes for what takes seconds.
func (n *nova) wait(what string, done func() (bool, error)) {
	n.t.Helper()
	if err := cluster.Wait(context.Background(), 5*time.Minute, what, done); err != nil {
		n.t.Fatal(err)
	}
}

// become waits until a server has a status; an error that is not wanted ends the test.
func (n *nova) become(id, status string) server {
	n.t.Helper()
	admin := n.as("admin")
	var s server
	n.wait("server "+id+" to be "+status, func() (bool, error) {
		var out struct{ Server server }
		admin.compute(http.MethodGet, "/servers/"+id, nil, &out)
		s = out.Server
		if s.Status == "ERROR" && status != "ERROR" {
			return false, fmt.Errorf("server is in error: %s\n%s", s.Fault.Message, s.Fault.Details)
		}
		return s.Status == status, nil
	})
	return s
}

// boot asks for a server with block devices and returns its id.
func (n *nova) boot(name string, more object, devices ...object) string {
	n.t.Helper()
	want := object{"name": name, "flavorRef": "m1.nano", "networks": "none", "block_device_mapping_v2": devices}
	for k, v := range more {
		want[k] = v
	}
	var out struct{ Server server }
	n.compute(http.MethodPost, "/servers", object{"server": want}, &out)
	return out.Server.ID
}

// fromImage is a root disk that Nova makes a volume for, of 1 GiB.
func fromImage(image string, deleteToo bool) object {
	return object{
		"boot_index": 0, "uuid": image, "source_type": "image", "destination_type": "volume", "volume_size": 1, "delete_on_termination": deleteToo,
	}
}

// fromVolume is a root disk that stands already.
func fromVolume(volume string) object {
	return object{"boot_index": 0, "uuid": volume, "source_type": "volume", "destination_type": "volume", "delete_on_termination": false}
}

// do sends an action to a server.
func (n *nova) do(id, action string, args any) {
	n.t.Helper()
	n.compute(http.MethodPost, "/servers/"+id+"/action", object{action: args}, nil)
}

// remove deletes servers and waits until Nova has forgotten them.
func (n *nova) remove(ids ...string) {
	n.t.Helper()
	for _, id := range ids {
		n.compute(http.MethodDelete, "/servers/"+id, nil, nil)
	}
	for _, id := range ids {
		n.wait("server "+id+" to be gone", func() (bool, error) {
			a := n.send(http.MethodGet, n.lab.NovaURL()+"/servers/"+id, revision, nil)
			if strings.Contains(a.body, `"status": "ERROR"`) && strings.Contains(a.body, `"OS-EXT-STS:task_state": null`) {
				return false, fmt.Errorf("server can't be deleted: %s", a.body)
			}
			return a.status == http.StatusNotFound, nil
		})
	}
}

// attach gives a server a volume and waits until it has it.
func (n *nova) attach(id, volume string) {
	n.t.Helper()
	n.compute(http.MethodPost, "/servers/"+id+"/os-volume_attachments", object{"volumeAttachment": object{"volumeId": volume}}, nil)
	n.waitStatus(volume, "in-use")
}

// newVolume makes a volume, from an image if that is not "".
func (n *nova) newVolume(name, image string) string {
	n.t.Helper()
	v, err := n.volumes().CreateVolume(limit(n.t, time.Minute), name, image, 1)
	if err != nil {
		n.t.Fatal(err)
	}
	n.waitStatus(v.ID, "available")
	return v.ID
}

func (n *nova) waitStatus(volume, status string) {
	n.t.Helper()
	if _, err := n.volumes().WaitVolume(limit(n.t, 3*time.Minute), volume, status, 3*time.Minute); err != nil {
		n.t.Fatal(err)
	}
}

// drop deletes volumes and waits until they are gone.
func (n *nova) drop(volumes ...string) {
	n.t.Helper()
	for _, v := range volumes {
		if err := n.volumes().DeleteVolume(limit(n.t, time.Minute), v); err != nil {
			n.t.Fatal(err)
		}
	}
	for _, v := range volumes {
		n.gone(v)
	}
}

// gone waits until a volume's row is.
func (n *nova) gone(volume string) {
	n.t.Helper()
	if err := n.volumes().WaitGone(limit(n.t, 3*time.Minute), volume, 3*time.Minute); err != nil {
		n.t.Fatal(err)
	}
}

// query returns the rows of one text column.
func (n *nova) query(q string, args ...any) []string {
	n.t.Helper()
	out := []string{}
	if err := n.rows.Select(&out, q, args...); err != nil {
		n.t.Fatal(err)
	}
	return out
}

// row is a volume's state in the product's database: status, then each attachment's status,
// host and kind of connection.
func (n *nova) row(volume string) string {
	n.t.Helper()
	return strings.Join(n.query(`
		SELECT status FROM volumes WHERE id = $1
		UNION ALL (SELECT attach_status || ' at ' || coalesce(attached_host, '-') || ' ' || coalesce(connection_info->>'driver_volume_type', '-')
		  || ' for ' || coalesce(instance_uuid::text, '-') FROM attachments WHERE volume_id = $1 ORDER BY created_at)`, volume), "; ")
}

// kernels is what stands of a volume in the nodes' kernels: its device as NODE:device, with
// "in use" if something has it open, and its target as NODE:target.
func (n *nova) kernels(volume string) string {
	n.t.Helper()
	const look = `
n=$(dmsetup info -c --noheadings -o open vmthunder-volume-$1 2>/dev/null) && echo device
for d in /sys/kernel/config/target/iscsi/iqn*$1*; do [ -e "$d" ] && echo target; done
true`
	var out []string
	for _, node := range n.lab.Nodes() {
		for _, word := range strings.Fields(n.script(node.Name(), look, volume)) {
			out = append(out, node.Name()+":"+word)
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// stands fails the test unless a volume's rows and what stands of it in kernels are as given.
func (n *nova) stands(volume, row, kernels string) {
	n.t.Helper()
	if got := n.row(volume); got != row {
		n.t.Errorf("volume %s: rows are %q, want %q", volume, got, row)
	}
	if got := n.kernels(volume); got != kernels {
		n.t.Errorf("volume %s: in kernels stands %q, want %q", volume, got, kernels)
	}
}

// free fails the test unless a volume is available, without an attachment and without a device.
func (n *nova) free(volume string) {
	n.t.Helper()
	n.stands(volume, "available", "")
}

// used fails the test unless a volume is in use by one server, by a local device.
func (n *nova) used(volume string, by server) {
	n.t.Helper()
	n.stands(volume, "in-use; attached at "+by.Host+" local for "+by.ID, by.Host+":device")
}

// empty fails the test unless no server, volume or attachment is left.
func (n *nova) empty() {
	n.t.Helper()
	var out struct{ Servers []server }
	n.as("admin").compute(http.MethodGet, "/servers?all_tenants=1", nil, &out)
	if len(out.Servers) > 0 {
		n.t.Errorf("servers are left: %+v", out.Servers)
	}
	if left := n.query(`SELECT 'volume ' || id || ' ' || status FROM volumes UNION ALL SELECT 'attachment ' || id FROM attachments`); len(left) > 0 {
		n.t.Errorf("rows are left: %q", left)
	}
}

// sweep deletes what earlier runs or a failed test have left.
func (n *nova) sweep() {
	var out struct{ Servers []server }
	n.compute(http.MethodGet, "/servers?all_tenants=1", nil, &out)
	for _, s := range out.Servers {
		n.send(http.MethodPost, n.lab.NovaURL()+"/servers/"+s.ID+"/action", revision, object{"os-resetState": object{"state": "active"}})
		n.send(http.MethodDelete, n.lab.NovaURL()+"/servers/"+s.ID, revision, nil)
	}
	_ = cluster.Wait(context.Background(), time.Minute, "no servers", func() (bool, error) {
		n.compute(http.MethodGet, "/servers?all_tenants=1", nil, &out)
		return len(out.Servers) == 0, nil
	})
	nova := n.c.Nova()
	ctx := limit(n.t, 2*time.Minute)
	for _, id := range n.query(`SELECT id FROM attachments`) {
		if err := nova.Detach(ctx, id); err != nil {
			n.t.Log(err)
		}
	}
	for _, id := range n.query(`SELECT id FROM volumes`) {
		if err := nova.DeleteVolume(ctx, id); err != nil {
			n.t.Log(err)
		}
	}
	_ = cluster.Wait(ctx, time.Minute, "no volumes", func() (bool, error) { return len(n.query(`SELECT id::text FROM volumes`)) == 0, nil })
}

// markAt is where mark writes and marked looks, in blocks of 4 KiB.
const markAt = "256"

// mark writes a block into a volume's device at its home, as a virtual machine would.
func (n *nova) mark(volume, home string) {
	n.t.Helper()
	n.script(home, `head -c 4096 /dev/zero | tr '\0' '\252' | dd of=/dev/mapper/vmthunder-volume-$1 bs=4096 seek=`+markAt+` conv=notrunc oflag=direct 2>/dev/null`, volume)
	if !n.marked(volume, home) {
		n.t.Fatalf("volume %s does not keep what is written", volume)
	}
}

// marked tells whether a volume's device at its home has what mark wrote.
func (n *nova) marked(volume, home string) bool {
	n.t.Helper()
	return strings.TrimSpace(n.script(home, `dd if=/dev/mapper/vmthunder-volume-$1 bs=4096 skip=`+markAt+` count=1 iflag=direct 2>/dev/null | tr -cd '\252' | wc -c`, volume)) == "4096"
}

func (n *nova) script(node, text string, args ...string) string {
	n.t.Helper()
	x, err := n.lab.Node(node)
	if err != nil {
		n.t.Fatal(err)
	}
	out, err := x.Run(limit(n.t, time.Minute), append([]string{"sh", "-c", text, "script"}, args...)...)
	if err != nil {
		n.t.Fatal(err)
	}
	return out
}
