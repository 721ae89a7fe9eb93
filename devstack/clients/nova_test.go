//go:build lab

package clients

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/keystone"
	api "github.com/vmthunder/vmthunder/api/nova"
	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/devstack/lab"
)

// Nova with its fake virtual machines, on a product whose devices are real.
func TestNova(t *testing.T) {
	line := Line{Client: "Nova 26"}
	for _, c := range []struct {
		name string
		f    func(n *nova)
	}{
		{"BootFromImage", novaBootFromImage},
		{"BootFromVolume", novaBootFromVolume},
		{"AttachDetach", novaAttachDetach},
		{"Shelve", novaShelve},
		{"Migrate", novaMigrate},
		{"LiveMigrate", novaLiveMigrate},
		{"SwapVolume", novaSwapVolume},
		{"Rebuild", novaRebuild},
		{"Reimage", novaReimage},
		{"Extended", novaExtended},
		{"Events", novaEvents},
		{"ImageOfServer", novaImageOfServer},
		{"Multiattach", novaMultiattach},
		{"NoHost", novaNoHost},
		{"UnknownServer", novaUnknownServer},
		{"NovaDown", novaDown},
		{"Busy", novaBusy},
		{"Evacuate", novaEvacuate},
		{"HomeDead", novaHomeDead},
		{"TwentyServers", novaTwentyServers},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer func() {
				switch {
				case t.Failed():
					line.Failed++
					line.Failures = append(line.Failures, c.name+": see its output")
				case t.Skipped():
					line.Skipped++
				default:
					line.Passed++
				}
			}()
			n := newNova(t, "demo")
			c.f(n)
			n.empty()
		})
	}
	table.Add(line)
}

// A server from an image: Nova has a volume made, and both go together. While the server
// has the volume nobody takes it away but through Nova.
func novaBootFromImage(n *nova) {
	id := n.boot("from-image", nil, fromImage(n.image(n.t, lab.ImageRaw), true))
	s := n.become(id, "ACTIVE")
	if len(s.Volumes) != 1 {
		n.t.Fatalf("%+v", s)
	}
	volume := s.Volumes[0].ID
	n.used(volume, s)

	attachment := n.query(`SELECT id FROM attachments WHERE volume_id = $1`, volume)[0]
	base := "http://" + lab.HostAddress + ":8776/v3"
	refusal := `{"conflictingRequest":{"code":409,"message":"ConflictNovaUsingAttachment: Detach volume from instance ` + id + ` using the Compute API"}}`
	for _, x := range []struct {
		user, method, path string
		body               any
	}{
		{"demo", http.MethodDelete, "/attachments/" + attachment, nil},
		{"admin", http.MethodDelete, "/attachments/" + attachment, nil},
		{"demo", http.MethodPost, "/volumes/" + volume + "/action", object{"os-detach": object{"attachment_id": attachment}}},
		{"admin", http.MethodPost, "/volumes/" + volume + "/action", object{"os-force_detach": object{"attachment_id": attachment}}},
		{"demo", http.MethodPost, "/volumes/" + volume + "/action", object{"os-terminate_connection": object{"connector": object{"host": s.Host}}}},
	} {
		a := n.as(x.user).send(x.method, base+x.path, "volume 3.44", x.body)
		if a.status != http.StatusConflict || strings.TrimSpace(a.body) != refusal {
			n.t.Errorf("%s %s %s %v: %d %s", x.user, x.method, x.path, x.body, a.status, a.body)
		}
	}
	n.used(volume, s)
	n.remove(id)
	n.gone(volume)
	if k := n.kernels(volume); k != "" {
		n.t.Errorf("left in kernels: %s", k)
	}
}

// A server from a volume that stands already, which outlives it.
func novaBootFromVolume(n *nova) {
	volume := n.newVolume("root", n.image(n.t, lab.ImageRaw))
	for range 2 { // the second time the volume has its home
		s := n.become(n.boot("from-volume", nil, fromVolume(volume)), "ACTIVE")
		a := n.row(volume)
		if !strings.HasPrefix(a, "in-use; attached at "+s.Host+" ") {
			n.t.Errorf("rows: %s", a)
		}
		n.remove(s.ID)
		n.free(volume)
	}
	n.drop(volume)
}

// Volumes that come and go while a server runs.
func novaAttachDetach(n *nova) {
	root := n.newVolume("root", n.image(n.t, lab.ImageRaw))
	blank, copied := n.newVolume("blank", ""), n.newVolume("copied", n.image(n.t, lab.ImageRaw))
	s := n.become(n.boot("attach", nil, fromVolume(root)), "ACTIVE")
	for range 2 {
		for _, v := range []string{blank, copied} {
			n.attach(s.ID, v)
			n.used(v, s)
		}
		for _, v := range []string{blank, copied} {
			n.compute(http.MethodDelete, "/servers/"+s.ID+"/os-volume_attachments/"+v, nil, nil)
			n.waitStatus(v, "available")
			n.free(v)
		}
	}
	n.used(root, s)
	n.attach(s.ID, blank)
	n.do(s.ID, "reboot", object{"type": "HARD"})
	n.become(s.ID, "ACTIVE")
	n.used(blank, s)
	n.remove(s.ID)
	for _, v := range []string{root, blank, copied} {
		n.free(v)
	}
	n.drop(root, blank, copied)
}

// A server that is shelved gives its volumes' devices back and keeps the volumes reserved;
// unshelved elsewhere, it gets them there.
func novaShelve(n *nova) {
	volume := n.newVolume("root", n.image(n.t, lab.ImageRaw))
	s := n.become(n.boot("shelve", nil, fromVolume(volume)), "ACTIVE")
	n.used(volume, s)
	n.mark(volume, s.Host)
	n.do(s.ID, "shelve", nil) // offloaded at once, as a server on a volume is
	n.become(s.ID, "SHELVED_OFFLOADED")
	n.stands(volume, "reserved; reserved at - - for "+s.ID, "")
	n.do(s.ID, "unshelve", nil)
	back := n.become(s.ID, "ACTIVE")
	n.at(volume, s.Host, back)
	if !n.marked(volume, s.Host) {
		n.t.Error("what the server wrote is lost")
	}
	n.remove(s.ID)
	n.free(volume)
	n.drop(volume)
}

// at fails the test unless a volume is in use by a server, wherever that is: by a local
// device at the volume's home, by a target of the home anywhere else.
func (n *nova) at(volume, home string, s server) {
	n.t.Helper()
	if s.Host == home {
		n.used(volume, s)
		return
	}
	n.stands(volume, "in-use; attached at "+s.Host+" iscsi for "+s.ID, home+":device "+home+":target")
}

// A server that moves while it is off: the volume stays where it is, and is reached from
// there. Confirmed or taken back, one attachment is left.
func novaMigrate(n *nova) {
	volume := n.newVolume("root", n.image(n.t, lab.ImageRaw))
	s := n.become(n.boot("migrate", nil, fromVolume(volume)), "ACTIVE")
	home := s.Host
	for _, x := range []struct{ end, host string }{{"confirmResize", n.other(home)}, {"revertResize", n.other(home)}} {
		n.as("admin").do(s.ID, "migrate", nil)
		moved := n.become(s.ID, "VERIFY_RESIZE")
		n.at(volume, home, moved)
		n.do(s.ID, x.end, nil)
		s = n.become(s.ID, "ACTIVE")
		if s.Host != x.host {
			n.t.Errorf("%s: the server is at %s, want %s", x.end, s.Host, x.host)
		}
		n.at(volume, home, s)
	}
	n.remove(s.ID)
	n.free(volume)
	n.drop(volume)
}

// A server that moves while it runs, and back: for a while both hosts have the volume.
func novaLiveMigrate(n *nova) {
	volume := n.newVolume("root", n.image(n.t, lab.ImageRaw))
	s := n.become(n.boot("live", nil, fromVolume(volume)), "ACTIVE")
	home := s.Host
	for range 2 {
		from := s.Host
		n.as("admin").do(s.ID, "os-migrateLive", object{"host": nil, "block_migration": "auto"})
		n.wait("server to move", func() (bool, error) {
			s = n.server(s.ID)
			return s.Status == "ACTIVE" && s.Host != from, nil
		})
		n.at(volume, home, s)
	}
	n.remove(s.ID)
	n.free(volume)
	n.drop(volume)
}

// other is the host that is not this one.
func (n *nova) other(host string) string {
	for _, h := range n.lab.Computes() {
		if h != host {
			return h
		}
	}
	n.t.Fatalf("Nova has no other host than %s", host)
	return ""
}

// A volume in the place of another one, in a server that runs.
func novaSwapVolume(n *nova) {
	root := n.newVolume("root", n.image(n.t, lab.ImageRaw))
	before, after := n.newVolume("before", ""), n.newVolume("after", "")
	s := n.become(n.boot("swap", nil, fromVolume(root)), "ACTIVE")
	n.attach(s.ID, before)
	n.as("admin").compute(http.MethodPut, "/servers/"+s.ID+"/os-volume_attachments/"+before, object{"volumeAttachment": object{"volumeId": after}}, nil)
	n.waitStatus(after, "in-use")
	n.waitStatus(before, "available")
	n.used(after, s)
	n.free(before)
	n.remove(s.ID)
	n.drop(root, before, after)
}

// Many at once.
func novaTwentyServers(n *nova) {
	const count = 20
	n.boot("many", object{"min_count": count, "max_count": count}, fromImage(n.image(n.t, lab.ImageRaw), true))
	var out struct{ Servers []server }
	n.wait(fmt.Sprint(count, " servers to be active"), func() (bool, error) {
		n.compute(http.MethodGet, "/servers/detail", nil, &out)
		active := 0
		for _, s := range out.Servers {
			if s.Status == "ERROR" {
				return false, fmt.Errorf("server %s: %s\n%s", s.Name, s.Fault.Message, s.Fault.Details)
			}
			if s.Status == "ACTIVE" {
				active++
			}
		}
		return active == count, nil
	})
	var ids, volumes []string
	hosts := map[string]int{}
	for _, s := range out.Servers {
		s = n.server(s.ID)
		hosts[s.Host]++
		ids, volumes = append(ids, s.ID), append(volumes, s.Volumes[0].ID)
		n.used(s.Volumes[0].ID, s)
	}
	n.t.Logf("servers by host: %v", hosts)
	n.remove(ids...)
	for _, v := range volumes {
		n.gone(v)
		if k := n.kernels(v); k != "" {
			n.t.Errorf("left in kernels: %s", k)
		}
	}
}

// A server that is built again on the volume it has, which is not touched: before 2.93 only
// the image that it was made from is taken.
func novaRebuild(n *nova) {
	image := n.image(n.t, lab.ImageRaw)
	volume := n.newVolume("root", image)
	s := n.become(n.boot("rebuild", nil, fromVolume(volume)), "ACTIVE")
	n.do(s.ID, "rebuild", object{"imageRef": image, "description": "again"})
	n.wait("the server to be built again", func() (bool, error) {
		s = n.server(s.ID)
		return s.Status == "ACTIVE" && s.Description == "again", nil
	})
	n.used(volume, s)
	a := n.send(http.MethodPost, n.lab.NovaURL()+"/servers/"+s.ID+"/action", revision, object{"rebuild": object{"imageRef": n.image(n.t, lab.ImageQCOW2)}})
	if a.status != http.StatusBadRequest {
		n.t.Errorf("another image at %s: %d %s", revision, a.status, a.body)
	}
	n.remove(s.ID)
	n.free(volume)
	n.drop(volume)
}

// From 2.93 on the volume gets the content of the image, which Nova waits for.
func novaReimage(n *nova) {
	volume := n.newVolume("root", n.image(n.t, lab.ImageRaw))
	s := n.become(n.boot("reimage", nil, fromVolume(volume)), "ACTIVE")
	n.mark(volume, s.Host)
	home := s.Host
	rebuild := object{"rebuild": object{"imageRef": n.image(n.t, lab.ImageQCOW2), "description": "reimaged"}}
	if a := n.send(http.MethodPost, n.lab.NovaURL()+"/servers/"+s.ID+"/action", "compute 2.93", rebuild); a.status != http.StatusAccepted {
		n.t.Fatalf("rebuild: %d %s", a.status, a.body)
	}
	n.wait("the server to be built again", func() (bool, error) {
		s = n.server(s.ID)
		return s.Status == "ACTIVE" && s.Description == "reimaged", nil
	})
	n.used(volume, s)
	if n.marked(volume, home) {
		n.t.Error("the volume has what was written before")
	}
	n.remove(s.ID)
	n.free(volume)
	n.drop(volume)
}

// A volume that gets larger under a server: its host is told.
func novaExtended(n *nova) {
	root, data := n.newVolume("root", n.image(n.t, lab.ImageRaw)), n.newVolume("data", "")
	s := n.become(n.boot("extended", nil, fromVolume(root)), "ACTIVE")
	n.attach(s.ID, data)
	ctx := limit(n.t, 5*time.Minute)
	if err := n.volumes().Do(ctx, http.MethodPost, "/volumes/"+data+"/action", object{"os-extend": object{"new_size": 2}}, nil); err != nil {
		n.t.Fatal(err)
	}
	n.ended(s.ID, "extend_volume", "Success")
	n.waitStatus(data, "in-use")
	n.used(data, s)
	node, err := n.lab.Node(s.Host)
	if err != nil {
		n.t.Fatal(err)
	}
	if out, err := node.Run(ctx, "blockdev", "--getsize64", "/dev/mapper/vmthunder-volume-"+data); err != nil || strings.TrimSpace(out) != fmt.Sprint(2<<30) {
		n.t.Errorf("the device has %s bytes, %v", out, err)
	}
	n.remove(s.ID)
	n.free(data)
	n.drop(root, data)
}

// What Nova says to events, as the product hears it.
func novaEvents(n *nova) {
	root := n.newVolume("root", n.image(n.t, lab.ImageRaw))
	s := n.become(n.boot("events", nil, fromVolume(root)), "ACTIVE")
	client, err := api.New(api.Config{User: keystone.Config{
		AuthURL: n.lab.KeystoneURL(), Username: "vmthunder", Password: lab.Password, ProjectName: "service", Region: lab.Region, Interface: "public",
		HTTPClient: n.lab.HTTPClient(),
	}})
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, server, volume := limit(n.t, 5*time.Minute), uuid.MustParse(s.ID), uuid.MustParse(root)
	if err := client.VolumeExtended(ctx, server, volume); err != nil {
		n.t.Error(err)
	}
	n.ended(s.ID, "extend_volume", "Success")
	for _, failed := range []bool{false, true} { // nobody waits for it now; that Nova knows it is enough
		if err := client.VolumeReimaged(ctx, server, volume, failed); err != nil {
			n.t.Error(err)
		}
	}
	if err := client.VolumeExtended(ctx, uuid.New(), volume); !errors.Is(err, model.ErrNotFound) {
		n.t.Errorf("for a server that is not there: %v", err)
	}
	n.do(s.ID, "shelve", nil)
	n.become(s.ID, "SHELVED_OFFLOADED")
	n.wait("Nova to refuse events for a server on no host", func() (bool, error) { // it takes it off its host a moment later
		err := client.VolumeExtended(ctx, server, volume)
		if errors.Is(err, model.ErrNotFound) {
			return true, nil
		}
		return false, err
	})
	n.remove(s.ID)
	n.drop(root)
}

// An image of a server whose disk is a volume is a snapshot of the volume; a server from that
// image gets a volume made from the snapshot.
func novaImageOfServer(n *nova) {
	root := n.newVolume("root", n.image(n.t, lab.ImageRaw))
	s := n.become(n.boot("original", nil, fromVolume(root)), "ACTIVE")
	n.mark(root, s.Host)
	var image struct {
		ID string `json:"image_id"`
	}
	n.compute(http.MethodPost, "/servers/"+s.ID+"/action", object{"createImage": object{"name": "of-a-server"}}, &image)
	snapshots := n.query(`SELECT id::text FROM snapshots WHERE volume_id = $1`, root)
	if len(snapshots) != 1 {
		n.t.Fatalf("snapshots of the volume: %q", snapshots)
	}
	n.wait("the snapshot", func() (bool, error) {
		return n.query(`SELECT status FROM snapshots WHERE id = $1`, snapshots[0])[0] == "available", nil
	})
	n.used(root, s)
	var out struct{ Server server }
	n.compute(http.MethodPost, "/servers", object{"server": object{"name": "copy", "flavorRef": "m1.nano", "networks": "none", "imageRef": image.ID}}, &out)
	second := n.become(out.Server.ID, "ACTIVE")
	volume := second.Volumes[0].ID
	n.at(volume, s.Host, second) // a copy stands where its snapshot does
	if !n.marked(volume, s.Host) {
		n.t.Error("the image has not what the server wrote")
	}
	n.remove(s.ID, second.ID)
	n.free(root)
	n.free(volume)
	if a := n.send(http.MethodDelete, n.lab.GlanceURL()+"/v2/images/"+image.ID, "", nil); a.status != http.StatusNoContent {
		n.t.Errorf("delete image: %d %s", a.status, a.body)
	}
	ctx := limit(n.t, 3*time.Minute)
	if err := n.volumes().Do(ctx, http.MethodDelete, "/snapshots/"+snapshots[0], nil, nil); err != nil {
		n.t.Fatal(err)
	}
	n.wait("the snapshot to be gone", func() (bool, error) {
		return len(n.query(`SELECT id::text FROM snapshots WHERE volume_id = $1`, root)) == 0, nil
	})
	n.drop(root, volume)
}
