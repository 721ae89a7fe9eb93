package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	_ "github.com/lib/pq" // the databases are written to

	"github.com/vmthunder/vmthunder/devstack/cluster"
	"github.com/vmthunder/vmthunder/devstack/lab"
)

const cinderName = "Cinder 21"

// site is a laboratory with our control plane and, if it is installed, the real Cinder
// beside it: the same Postgres, RabbitMQ, Keystone and Glance on the same machine.
type site struct {
	lab     *lab.Lab
	cluster *cluster.Cluster
	ours    *service
	peer    *service // nil: it is not installed
	image   string   // id of the laboratory's boot image, raw, 64 MiB
}

// How newSite is to make it: with the peer if it is there, or alone.
const (
	withPeer = true
	alone    = false
)

// newSite needs its close called. Its nodes are an origin and a compute node.
func newSite(ctx context.Context, b *Bench, name string, peer bool) (s *site, err error) {
	o := lab.Options{Name: name, Services: lab.BaseServices(), Owned: true, Progress: b.Progress, Images: true}
	if _, missing := os.Stat("/usr/bin/cinder-wsgi"); peer && missing != nil {
		b.Progress("the real Cinder is not installed (devstack/packages.sh peer): no peer")
		peer = false
	}
	if peer {
		o.Services = append(o.Services, lab.Cinder)
	}
	o.Nodes = []lab.NodeSpec{{Name: "origin", Memory: 384}, {Name: "node1", Memory: 256}}
	l, err := lab.Up(ctx, o)
	if err != nil {
		return nil, err
	}
	s = &site{lab: l}
	if err := s.start(ctx, b, peer); err != nil {
		return nil, s.close(ctx, err)
	}
	return s, nil
}

// start starts the control plane and has both contestants ready for work.
func (s *site) start(ctx context.Context, b *Bench, peer bool) (err error) {
	s.cluster, err = cluster.Start(ctx, s.lab, cluster.Options{
		Origins: []string{"origin"}, Progress: b.Progress,
		SetNode: map[string]map[string]string{"origin": {"node.compute": "false"}},
		Set: map[string]string{
			"DEFAULT.quota_volumes": "-1", "DEFAULT.quota_gigabytes": "-1",
			"scheduler.image_idle_time": "3600", // between runs there are no volumes of it
		},
	})
	if err != nil {
		return err
	}
	project, err := s.cluster.Admin().Project(ctx)
	if err != nil {
		return err
	}
	if s.ours, err = newService(ctx, s.lab, "", fmt.Sprintf("http://%s:%d", lab.HostAddress, lab.PortVolume), project); err != nil {
		return err
	}
	if s.image, err = s.imageID(ctx); err != nil {
		return err
	}
	if !peer {
		return s.warmUp(ctx, b)
	}
	if s.peer, err = newService(ctx, s.lab, cinderName, strings.TrimSuffix(s.lab.CinderURL(), "/v3/%(project_id)s"), project); err != nil {
		return err
	}
	if err := s.peer.widen(ctx); err != nil {
		return err
	}
	return s.warmUp(ctx, b)
}

// warmUp has every process of both done its work once before anything is measured. The
// first request that each of the peer's API processes passes on to its scheduler is lost
// now and then, and its volume stays creating; so it is not insisted on.
func (s *site) warmUp(ctx context.Context, b *Bench) error {
	for _, of := range s.both() {
		ids := make([]string, 4*volumesClients)
		_, err := load(ctx, len(ids), volumesClients, func(ctx context.Context, i int) (err error) {
			ids[i], err = of.create(ctx, "first", "")
			return err
		})
		if err != nil {
			return err
		}
		if err := of.available(ctx, ids, 20*time.Second); err != nil {
			if of == s.ours || ctx.Err() != nil {
				return err
			}
			b.Progress("warming up: %v", err)
		}
		if err := s.wipe(ctx, of); err != nil {
			return err
		}
	}
	return nil
}

// close takes all down and joins what goes wrong to err.
func (s *site) close(ctx context.Context, err error) error {
	down, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer cancel()
	return errors.Join(err, s.lab.Down(down))
}

func (s *site) imageID(ctx context.Context) (string, error) {
	glance := *s.ours
	glance.url = s.lab.GlanceURL()
	var out struct{ Images []struct{ ID string } }
	if err := glance.do(ctx, "GET", "/v2/images?name="+lab.ImageRaw, nil, &out); err != nil {
		return "", err
	}
	if len(out.Images) != 1 {
		return "", fmt.Errorf("Glance has %d images %s", len(out.Images), lab.ImageRaw)
	}
	return out.Images[0].ID, nil
}

// both are the contestants, ours first.
func (s *site) both() []*service {
	if s.peer == nil {
		return []*service{s.ours}
	}
	return []*service{s.ours, s.peer}
}

// database of a contestant.
func (s *site) database(of *service) (*sql.DB, error) {
	name := "vmthunder"
	if of == s.peer {
		name = "cinder"
	}
	return sql.Open("postgres", s.lab.SocketDSN(name))
}

// run executes statements, one after the other.
func (s *site) run(ctx context.Context, of *service, statements ...string) error {
	db, err := s.database(of)
	if err != nil {
		return err
	}
	defer db.Close()
	for _, q := range statements {
		if _, err := db.ExecContext(ctx, q); err != nil {
			return fmt.Errorf("%s: %w", q, err)
		}
	}
	return nil
}

// wipe removes all volumes of a contestant behind its back: runs are to begin alike, and
// how long deletion takes is not asked here.
func (s *site) wipe(ctx context.Context, of *service) error {
	if of != s.peer {
		return s.run(ctx, of, "DELETE FROM attachments", "DELETE FROM volumes", "VACUUM ANALYZE volumes", "VACUUM ANALYZE usage_changes")
	}
	err := s.run(ctx, of, "TRUNCATE volumes, reservations CASCADE", "UPDATE quota_usages SET in_use = 0, reserved = 0", "VACUUM ANALYZE volumes")
	files, globErr := filepath.Glob(filepath.Join(s.lab.CinderStore(), "volume-*"))
	err = errors.Join(err, globErr)
	for _, f := range files {
		err = errors.Join(err, os.Remove(f))
	}
	return err
}
