//go:build lab

package clients

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/devstack/cluster"
	"github.com/vmthunder/vmthunder/devstack/lab"
)

// Nodes of the laboratory. The origin holds images and volumes.
const (
	origin = "origin"
	node1  = "node1"
)

// Backends: that of the origin, which names none, and that of the other node. Volumes of no type are
// on either.
const (
	unnamed = model.BackendName
	slow    = "slow"
)

func nodeSpecs() []lab.NodeSpec {
	return []lab.NodeSpec{{Name: origin, Memory: 384}, {Name: node1, Memory: 384}}
}

// site is the laboratory with the product in it.
type site struct {
	lab *lab.Lab
	c   *cluster.Cluster
}

// started is the one site of this test process.
var started struct {
	sync.Once
	s   *site
	err error
}

// current returns the site. A standing laboratory that was joined gets a new control plane
// and a new database.
func current(t *testing.T) *site {
	t.Helper()
	started.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
		defer cancel()
		started.s, started.err = start(ctx)
	})
	if started.err != nil {
		t.Fatal(started.err)
	}
	return started.s
}

func start(ctx context.Context) (*site, error) {
	l, err := lab.FromEnv()
	if err != nil {
		return nil, err
	}
	progress := func(f string, a ...any) { fmt.Fprintf(os.Stderr, "clients: "+f+"\n", a...) }
	if p, err := l.HostProcess("vmthunder-api-0"); err == nil { // of an earlier run
		progress("ending the control plane that stands")
		if err := p.Kill(ctx); err != nil {
			return nil, err
		}
		for _, n := range l.Nodes() {
			if err := n.Restart(ctx); err != nil {
				return nil, err
			}
		}
	}
	c, err := cluster.Start(ctx, l, cluster.Options{
		Origins: []string{origin}, Debug: true, Progress: progress,
		SetNode: map[string]map[string]string{node1: {"DEFAULT.volume_backend_name": slow}},
	})
	if err != nil {
		return nil, err
	}
	return &site{lab: l, c: c}, nil
}

// need starts services of the laboratory that not all tests want, in order.
func (s *site) need(t *testing.T, services ...lab.Service) {
	t.Helper()
	for _, x := range services {
		if s.lab.Running(x) {
			continue
		}
		if err := s.lab.Start(limit(t, 4*time.Minute), x); err != nil {
			t.Fatal(err)
		}
	}
}

// shareBackups gives the nodes a place for backups until the test ends.
func (s *site) shareBackups(t *testing.T) {
	t.Helper()
	if err := s.c.ShareBackups(limit(t, 2*time.Minute), filepath.Join(t.TempDir(), "backups"), origin, node1); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.c.UnshareBackups(limit(t, time.Minute), origin, node1); err != nil {
			t.Error(err)
		}
	})
}

// image returns the id of one of the images that the laboratory has registered.
func (s *site) image(t *testing.T, name string) string {
	t.Helper()
	// An image of that name is there, so no file is read.
	id, err := s.lab.UploadImage(limit(t, time.Minute), name, "raw", "")
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// limit is a context for one thing that a test waits for.
func limit(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// EnvArtefacts names the directory for what a person may want to look at.
const envArtefacts = "VMT_ARTEFACTS"

var artefactsDir string

// artefacts returns an empty directory of its own for a test's files.
func artefacts(t *testing.T, name string) string {
	t.Helper()
	if artefactsDir == "" {
		d := os.Getenv(envArtefacts)
		var err error
		if d == "" {
			d, err = os.MkdirTemp("", "vmthunder-clients-")
		} else {
			d, err = filepath.Abs(d)
		}
		if err != nil {
			t.Fatal(err)
		}
		artefactsDir = d
	}
	d := filepath.Join(artefactsDir, name)
	if err := os.RemoveAll(d); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(d, 0o755); err != nil {
		t.Fatal(err)
	}
	return d
}
