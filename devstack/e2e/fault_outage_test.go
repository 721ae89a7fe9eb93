//go:build lab

package e2e

import (
	"net/http"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/devstack/cluster"
	"github.com/vmthunder/vmthunder/devstack/lab"
)

// TestFaultOutages: the bus or the database goes away under an attachment and stays away
// for so long that all nodes count as dead. Nothing is half done, reads on nodes do not
// notice, and afterwards the same request works.
func TestFaultOutages(t *testing.T) {
	f := newFaults(t)
	f.control(map[string]string{"scheduler.service_down_time": "8", "scheduler.attach_timeout": "20"})
	var all []string
	for _, n := range f.lab.Nodes() {
		all = append(all, n.Name())
	}
	for _, c := range []struct {
		name    string
		service lab.Service
		stop    func(t *testing.T)
		start   func(t *testing.T)
	}{
		{"message bus stopped", lab.Rabbit, f.stopService(lab.Rabbit), f.startService(lab.Rabbit)},
		{"message bus frozen", lab.Rabbit,
			func(t *testing.T) {
				must(t, f.lab.Pause(lab.Rabbit))
				t.Cleanup(func() { _ = f.lab.Resume(lab.Rabbit) })
			},
			func(t *testing.T) { must(t, f.lab.Resume(lab.Rabbit)) }},
		{"database stopped", lab.Postgres, f.stopService(lab.Postgres), f.startService(lab.Postgres)},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := f.on(t)
			img := f.image(t, 16*mib)
			read := f.newAttached(t, img.id, n2)
			f.treeStands(t, img.id, 2, n2)
			v := f.create(t, img.id)
			second := f.c.Client(1, "admin", "admin") // with a token from before
			_, err := second.Volume(limit(t, time.Minute), v)
			must(t, err)
			id, err := f.reserve(f.admin, v)
			must(t, err)
			h := f.hold(v, id, n1)
			c.stop(t)
			h.resume()
			r := f.startRead(t, n2, read.device, 16*mib)
			if _, err := h.wait(); err == nil {
				t.Error("the request was granted, though nobody could have known")
			} else {
				t.Log(err)
			}
			r.wait(t, img.sum)

			if c.service == lab.Rabbit {
				f.alive(false, all...)
				_, err = f.connect(f.admin, id, v, n1)
				// A bus that is gone is seen at once; of one that is frozen only that no node answers.
				refused(t, err, map[bool]int{true: http.StatusServiceUnavailable, false: http.StatusInternalServerError}[!f.lab.Running(lab.Rabbit)])
			} else {
				unavailable(t, v, f.admin, second)
			}
			f.run(t, n2, "echo 3 > /proc/sys/vm/drop_caches")
			f.same(t, n2, read.device, 0, img.bytes)
			c.start(t)
			f.alive(true, all...)

			// The same request once more.
			var a attached
			until(t, time.Minute, "the same request to be granted", func() (bool, error) {
				var err error
				a, err = f.connect(f.admin, id, v, n1)
				if err != nil {
					t.Log(err)
				}
				return err == nil, nil
			})
			f.becomes(v, "in-use")
			f.same(t, n1, a.device, 0, img.bytes)
			f.same(t, n2, read.device, 0, img.bytes)
			f.treeStands(t, img.id, 2, n1, n2)
			f.drop(t, a, read)
			f.clean(t)
		})
	}
}

// unavailable checks that nothing can be asked, of any replica, and that it is said so.
func unavailable(t *testing.T, volume string, replicas ...*cluster.Client) {
	t.Helper()
	for _, c := range replicas {
		_, err := c.Volume(limit(t, time.Minute), volume)
		refused(t, err, http.StatusServiceUnavailable)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (f *faults) stopService(s lab.Service) func(t *testing.T) {
	return func(t *testing.T) {
		t.Helper()
		must(t, f.lab.Stop(limit(t, time.Minute), s))
		t.Cleanup(func() {
			if !f.lab.Running(s) {
				must(t, f.lab.Start(limit(t, time.Minute), s))
			}
		})
	}
}

func (f *faults) startService(s lab.Service) func(t *testing.T) {
	return func(t *testing.T) {
		t.Helper()
		must(t, f.lab.Start(limit(t, time.Minute), s))
	}
}
