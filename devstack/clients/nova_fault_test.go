//go:build lab

package clients

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/vmthunder/vmthunder/devstack/cluster"
	"github.com/vmthunder/vmthunder/devstack/lab"
)

// What goes wrong in a cloud: at the end no volume is held by what is not there any more.

// on is where a server has to be, which only an administrator may say.
func on(host string) object { return object{"availability_zone": "nova:" + host} }

// A server that no host takes keeps its volume until it is deleted.
func novaNoHost(n *nova) {
	volume := n.newVolume("root", n.image(n.t, lab.ImageRaw))
	flavor := object{"flavor": object{"id": "m1.huge", "name": "m1.huge", "ram": 64, "disk": 1, "vcpus": 100000}}
	if a := n.as("admin").send(http.MethodPost, n.lab.NovaURL()+"/flavors", revision, flavor); a.status != http.StatusOK && a.status != http.StatusConflict {
		n.t.Fatalf("flavor: %d %s", a.status, a.body)
	}
	s := n.become(n.boot("nowhere", object{"flavorRef": "m1.huge"}, fromVolume(volume)), "ERROR")
	n.stands(volume, "reserved; reserved at - - for "+s.ID, "")
	n.remove(s.ID)
	n.free(volume)
	n.drop(volume)
}

// An attachment whose server Nova does not know is anybody's to delete.
func novaUnknownServer(n *nova) {
	volume := n.newVolume("data", "")
	user := n.volumes()
	a, err := user.Attach(limit(n.t, 2*time.Minute), volume, node1, "iqn.2026-11.org.vmthunder.lab:"+node1)
	if err != nil {
		n.t.Fatal(err)
	}
	if got := n.kernels(volume); got != node1+":device" {
		n.t.Errorf("in kernels stands %q", got)
	}
	if err := user.Detach(limit(n.t, 2*time.Minute), a.ID); err != nil {
		n.t.Error(err)
	}
	n.free(volume)
	n.drop(volume)
}

// While Nova is down nobody knows, and nothing is taken away.
func novaDown(n *nova) {
	volume := n.newVolume("root", n.image(n.t, lab.ImageRaw))
	s := n.become(n.boot("down", nil, fromVolume(volume)), "ACTIVE")
	attachment := n.query(`SELECT id FROM attachments WHERE volume_id = $1`, volume)[0]
	if err := n.lab.Pause(lab.Nova); err != nil {
		n.t.Fatal(err)
	}
	err := n.volumes().Detach(limit(n.t, 2*time.Minute), attachment)
	if rerr := n.lab.Resume(lab.Nova); rerr != nil {
		n.t.Fatal(rerr)
	}
	if e := new(cluster.Error); !errors.As(err, &e) || e.Status != http.StatusServiceUnavailable || !strings.Contains(e.Body, "can't be asked at the moment whether instance "+s.ID) {
		n.t.Errorf("detached while Nova is down: %v", err)
	}
	n.used(volume, s)
	n.remove(s.ID)
	n.free(volume)
	n.drop(volume)
}

// A device that something has open can't be taken away: Nova's detaching fails, the server
// keeps the volume, and the next try finds all as before.
func novaBusy(n *nova) {
	root, data := n.newVolume("root", n.image(n.t, lab.ImageRaw)), n.newVolume("data", "")
	s := n.become(n.boot("busy", nil, fromVolume(root)), "ACTIVE")
	n.attach(s.ID, data)
	node, err := n.lab.Node(s.Host)
	if err != nil {
		n.t.Fatal(err)
	}
	ctx := limit(n.t, 10*time.Minute)
	if _, err := node.Start(ctx, "holder", lab.Command{Argv: []string{"sh", "-c", "exec sleep 3600 </dev/mapper/vmthunder-volume-" + data}}); err != nil {
		n.t.Fatal(err)
	}
	n.wait("the device to be open", func() (bool, error) {
		out, err := node.Run(ctx, "dmsetup", "info", "-c", "--noheadings", "-o", "open", "vmthunder-volume-"+data)
		return strings.TrimSpace(out) == "1", err
	})
	n.compute(http.MethodDelete, "/servers/"+s.ID+"/os-volume_attachments/"+data, nil, nil)
	n.ended(s.ID, "detach_volume", "Error")
	n.used(data, s)
	if _, err := node.Stop(ctx, "holder", time.Second); err != nil {
		n.t.Fatal(err)
	}
	n.compute(http.MethodDelete, "/servers/"+s.ID+"/os-volume_attachments/"+data, nil, nil)
	n.waitStatus(data, "available")
	n.free(data)
	n.remove(s.ID)
	n.free(root)
	n.drop(root, data)
}

// ended waits until the last action of a kind on a server has ended, and fails the test
// unless it ended so.
func (n *nova) ended(id, action, result string) {
	n.t.Helper()
	admin, got := n.as("admin"), ""
	n.wait(action+" to end", func() (bool, error) {
		var list struct {
			Actions []struct {
				Action  string
				Request string `json:"request_id"`
			} `json:"instanceActions"`
		}
		admin.compute(http.MethodGet, "/servers/"+id+"/os-instance-actions", nil, &list)
		for _, a := range list.Actions { // the newest first
			if a.Action != action {
				continue
			}
			var one struct {
				Action struct{ Events []struct{ Result *string } } `json:"instanceAction"`
			}
			admin.compute(http.MethodGet, "/servers/"+id+"/os-instance-actions/"+a.Request, nil, &one)
			if e := one.Action.Events; len(e) > 0 && e[0].Result != nil {
				got = *e[0].Result
				return true, nil
			}
			return false, nil
		}
		return false, nil
	})
	if got != result {
		n.t.Errorf("%s of server %s: %s, want %s", action, id, got, result)
	}
}

// The compute service of a host is lost, and its server is started elsewhere.
func novaEvacuate(n *nova) {
	admin := n.as("admin")
	volume := n.newVolume("root", n.image(n.t, lab.ImageRaw))
	s := n.become(n.boot("evacuate", nil, fromVolume(volume)), "ACTIVE")
	lost := s.Host
	admin.forceDown(lost, true)
	defer admin.forceDown(lost, false)
	admin.do(s.ID, "evacuate", object{"host": n.other(lost)})
	n.wait("the server to be elsewhere", func() (bool, error) {
		s = n.server(s.ID)
		return s.Status == "ACTIVE" && s.Host == n.other(lost), nil
	})
	n.at(volume, lost, s)
	n.remove(s.ID)
	n.free(volume)
	// A server whose host is lost is deleted without it.
	admin.forceDown(lost, false)
	s = n.become(n.boot("orphan", nil, fromVolume(volume)), "ACTIVE")
	admin.forceDown(s.Host, true)
	defer admin.forceDown(s.Host, false)
	n.remove(s.ID)
	n.free(volume)
	n.drop(volume)
}

// forceDown has Nova take a host's compute service for dead, or believe its heartbeat again.
func (n *nova) forceDown(host string, down bool) {
	n.t.Helper()
	var list struct {
		Services []struct{ ID string }
	}
	n.compute(http.MethodGet, "/os-services?binary=nova-compute&host="+host, nil, &list)
	if len(list.Services) != 1 {
		n.t.Fatalf("compute services of %s: %v", host, list.Services)
	}
	n.compute(http.MethodPut, "/os-services/"+list.Services[0].ID, object{"forced_down": down}, nil)
}

// The node that holds a volume is dead: the server elsewhere does not get it, and nothing
// is left of the attempt.
func novaHomeDead(n *nova) {
	n = n.as("admin")
	root, data := n.newVolume("root", n.image(n.t, lab.ImageRaw)), n.newVolume("data", "")
	first := n.become(n.boot("first", on(node1), fromVolume(root)), "ACTIVE")
	n.attach(first.ID, data)
	n.compute(http.MethodDelete, "/servers/"+first.ID+"/os-volume_attachments/"+data, nil, nil)
	n.waitStatus(data, "available")
	second := n.become(n.boot("second", on(origin), fromImage(n.image(n.t, lab.ImageRaw), true)), "ACTIVE")
	node, err := n.lab.Node(node1)
	if err != nil {
		n.t.Fatal(err)
	}
	ctx := limit(n.t, 10*time.Minute)
	if err := node.Kill(ctx); err != nil {
		n.t.Fatal(err)
	}
	n.compute(http.MethodPost, "/servers/"+second.ID+"/os-volume_attachments", object{"volumeAttachment": object{"volumeId": data}}, nil)
	n.ended(second.ID, "attach_volume", "Error")
	if got := n.row(data); got != "available" {
		n.t.Errorf("volume %s: rows are %q", data, got)
	}
	if err := n.c.Reboot(ctx, node1); err != nil {
		n.t.Fatal(err)
	}
	if err := n.c.WaitNodes(ctx, len(n.lab.Nodes())); err != nil {
		n.t.Fatal(err)
	}
	n.attach(second.ID, data)
	n.stands(data, "in-use; attached at "+origin+" iscsi for "+second.ID, node1+":device "+node1+":target")
	n.wait("the first server's root to stand again", func() (bool, error) { return n.kernels(root) == node1+":device", nil })
	n.used(root, first)
	n.remove(first.ID, second.ID)
	n.free(root)
	n.free(data)
	n.drop(root, data)
	n.gone(second.Volumes[0].ID)
}

// A volume that two servers on two hosts have at once.
func novaMultiattach(n *nova) {
	n = n.as("admin")
	admin := n.volumes()
	ctx := limit(n.t, 10*time.Minute)
	var made struct {
		Type struct{ ID string } `json:"volume_type"`
	}
	kind := object{"name": "shared", "extra_specs": object{"multiattach": "<is> True"}}
	if err := admin.Do(ctx, http.MethodPost, "/types", object{"volume_type": kind}, &made); err != nil {
		n.t.Fatal(err)
	}
	var v struct{ Volume cluster.Volume }
	if err := admin.Do(ctx, http.MethodPost, "/volumes", object{"volume": object{"name": "shared", "size": 1, "volume_type": "shared"}}, &v); err != nil {
		n.t.Fatal(err)
	}
	shared := v.Volume.ID
	n.waitStatus(shared, "available")
	first := n.become(n.boot("first", on(node1), fromImage(n.image(n.t, lab.ImageRaw), true)), "ACTIVE")
	second := n.become(n.boot("second", on(origin), fromImage(n.image(n.t, lab.ImageRaw), true)), "ACTIVE")
	n.attach(first.ID, shared)
	n.attach(second.ID, shared)
	both := "in-use; attached at " + node1 + " local for " + first.ID + "; attached at " + origin + " iscsi for " + second.ID
	n.wait("both to have it", func() (bool, error) { return n.row(shared) == both, nil })
	n.stands(shared, both, node1+":device "+node1+":target")
	n.compute(http.MethodDelete, "/servers/"+first.ID+"/os-volume_attachments/"+shared, nil, nil)
	one := "in-use; attached at " + origin + " iscsi for " + second.ID
	n.wait("one to have it", func() (bool, error) { return n.row(shared) == one, nil })
	n.stands(shared, one, node1+":device "+node1+":target")
	n.remove(second.ID, first.ID)
	n.free(shared)
	n.drop(shared)
	n.gone(first.Volumes[0].ID)
	n.gone(second.Volumes[0].ID)
	if err := admin.Do(ctx, http.MethodDelete, "/types/"+made.Type.ID, nil, nil); err != nil {
		n.t.Error(err)
	}
}
