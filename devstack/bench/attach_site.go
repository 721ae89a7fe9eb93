package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/vmthunder/vmthunder/devstack/bench/disk"
	"github.com/vmthunder/vmthunder/devstack/cluster"
	"github.com/vmthunder/vmthunder/devstack/lab"
)

const (
	warmImageBytes = 64 << 20
	warmHost       = "node1"
)

// warmSite is a laboratory in which an image is warm on a node: a volume of it is attached
// there and all of the image was read.
type warmSite struct {
	lab    *lab.Lab
	c      *cluster.Cluster
	admin  *cluster.Client
	nova   *cluster.Client // with the service token that detaching wants
	node   *lab.Node
	disks  *diskReader
	image  string
	device string // of the volume that is attached
}

// newWarmSite needs its close called.
func newWarmSite(ctx context.Context, b *Bench, name string) (s *warmSite, err error) {
	s = &warmSite{}
	s.lab, err = lab.Up(ctx, lab.Options{
		Name: name, Services: []lab.Service{lab.Postgres, lab.Rabbit, lab.Keystone, lab.Glance}, Owned: true, Progress: b.Progress,
		Nodes: []lab.NodeSpec{{Name: "origin", Memory: 384}, {Name: warmHost, Memory: 384}},
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = s.close(ctx, err)
		}
	}()
	s.c, err = cluster.Start(ctx, s.lab, cluster.Options{
		Origins: []string{"origin"}, Progress: b.Progress,
		Set: map[string]string{"DEFAULT.log_level": "debug", "DEFAULT.use_json": "true"},
		SetNode: map[string]map[string]string{
			"origin": {"node.compute": "false", "DEFAULT.log_level": "info"},
			warmHost: {"DEFAULT.log_level": "info"}, // a node's log costs it time
		},
	})
	if err != nil {
		return nil, err
	}
	s.admin, s.nova = s.c.Admin(), s.c.Nova()
	if s.node, err = s.lab.Node(warmHost); err != nil {
		return nil, err
	}
	if s.disks, err = startDiskReader(ctx, s.c, s.node); err != nil {
		return nil, err
	}
	if s.image, err = s.upload(ctx, "warm", warmImageBytes); err != nil {
		return nil, err
	}
	v, err := s.create(ctx, s.image)
	if err != nil {
		return nil, err
	}
	a, err := s.admin.Attach(ctx, v, warmHost, s.node.Initiator())
	if err != nil {
		return nil, err
	}
	s.device = a.Device()
	return s, s.warm()
}

func (s *warmSite) close(ctx context.Context, err error) error {
	if s.disks != nil {
		s.disks.close()
	}
	down, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
	defer cancel()
	return errors.Join(err, s.lab.Down(down))
}

// warm reads all of the image through the volume.
func (s *warmSite) warm() error {
	_, err := s.disks.ask(disk.Request{Op: disk.Scan, Path: s.device, Bytes: warmImageBytes})
	return err
}

// upload makes an image of random bytes, the same for the same name.
func (s *warmSite) upload(ctx context.Context, name string, size int) (string, error) {
	var seed [32]byte
	copy(seed[:], name)
	b := make([]byte, size)
	_, _ = rand.NewChaCha8(seed).Read(b)
	path := filepath.Join(s.lab.Dir(), name+".raw")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		return "", err
	}
	defer os.Remove(path)
	return s.lab.UploadImage(ctx, name, "raw", path)
}

// create makes a volume and waits until it is available.
func (s *warmSite) create(ctx context.Context, image string) (string, error) {
	v, err := s.admin.CreateVolume(ctx, "bench", image, 1)
	if err != nil {
		return "", err
	}
	_, err = s.admin.WaitVolume(ctx, v.ID, "available", time.Minute)
	return v.ID, err
}

// attached is one attach, and what its parts took in ms.
type attached struct {
	volume, id, device               string
	reserve, connect, complete, read float64
}

func (a attached) total() float64 { return a.reserve + a.connect + a.complete + a.read }

// attach does what Nova does, and reads the device's first bytes.
func (s *warmSite) attach(ctx context.Context, volume string) (attached, error) {
	x := attached{volume: volume}
	type object = map[string]any
	connector := object{
		"host": warmHost, "ip": "10.77.0.1", "initiator": s.node.Initiator(), "platform": "x86_64", "os_type": "linux",
		"multipath": false, "mountpoint": "/dev/vda",
	}
	var out struct{ Attachment cluster.Attachment }
	for _, step := range []struct {
		took *float64
		do   func() error
	}{
		{&x.reserve, func() error {
			return s.admin.Do(ctx, http.MethodPost, "/attachments", object{"attachment": object{"volume_uuid": volume, "instance_uuid": "152e359d-e56d-46dc-84d3-bbc763080a95"}}, &out)
		}},
		{&x.connect, func() error {
			return s.admin.Do(ctx, http.MethodPut, "/attachments/"+out.Attachment.ID, object{"attachment": object{"connector": connector}}, &out)
		}},
		{&x.complete, func() error {
			return s.admin.Do(ctx, http.MethodPost, "/attachments/"+out.Attachment.ID+"/action", object{"os-complete": nil}, nil)
		}},
		{&x.read, func() error {
			_, err := s.disks.ask(disk.Request{Op: disk.First, Path: out.Attachment.Device()})
			return err
		}},
	} {
		start := time.Now()
		if err := step.do(); err != nil {
			return x, fmt.Errorf("attach %s: %w", volume, err)
		}
		*step.took = milliseconds(time.Since(start))
	}
	x.id, x.device = out.Attachment.ID, out.Attachment.Device()
	return x, nil
}

// detach returns the ms that it took.
func (s *warmSite) detach(ctx context.Context, x attached) (float64, error) {
	start := time.Now()
	if err := s.nova.Detach(ctx, x.id); err != nil {
		return 0, fmt.Errorf("detach %s: %w", x.volume, err)
	}
	return milliseconds(time.Since(start)), nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// diskReader is a process of package disk that runs in a node.
type diskReader struct {
	in    *io.PipeWriter
	out   *json.Decoder
	ended chan error // takes one
}

// startDiskReader builds this program for the node and starts it there.
func startDiskReader(ctx context.Context, c *cluster.Cluster, n *lab.Node) (*diskReader, error) {
	program := c.Program("vmthunder-bench")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/vmthunder/vmthunder/cmd/vmthunder-bench")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w: %s", err, out)
	}
	inR, inW := io.Pipe()
	outR, outW := io.Pipe()
	r := &diskReader{in: inW, out: json.NewDecoder(bufio.NewReader(outR)), ended: make(chan error, 1)}
	go func() {
		var stderr strings.Builder
		code, err := n.Stream(ctx, lab.Command{Argv: []string{program, disk.Arg}}, lab.Streams{Stdin: inR, Stdout: outW, Stderr: &stderr})
		err = fmt.Errorf("the reader in %s ended with %d, %w: %s", n.Name(), code, err, strings.TrimSpace(stderr.String()))
		inR.CloseWithError(err)
		outW.CloseWithError(err)
		r.ended <- err
	}()
	return r, nil
}

func (r *diskReader) ask(q disk.Request) (disk.Answer, error) {
	line, err := json.Marshal(q)
	if err != nil {
		return disk.Answer{}, err
	}
	if _, err := r.in.Write(append(line, '\n')); err != nil {
		return disk.Answer{}, err
	}
	var a disk.Answer
	if err := r.out.Decode(&a); err != nil {
		return a, err
	}
	if a.Error != "" {
		return a, fmt.Errorf("%s in %s: %s", q.Op, warmHost, a.Error)
	}
	return a, nil
}

// close ends the process, which its input's end does.
func (r *diskReader) close() {
	_ = r.in.Close()
	<-r.ended
}
