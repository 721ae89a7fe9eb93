package db_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db"
	"github.com/vmthunder/vmthunder/db/dbtest"
	"github.com/vmthunder/vmthunder/db/model"
)

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }

const gib = int64(1) << 30

// world is a store with the small words of these tests.
type world struct {
	*db.Store
	t   *testing.T
	ctx context.Context
}

func newWorld(t *testing.T, opts ...db.Options) *world {
	t.Helper()
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return &world{dbtest.New(t, opts...), t, ctx}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) tx(fn func(t *db.Tx) error) {
	w.t.Helper()
	w.must(w.Tx(w.ctx, fn))
}

// node reports once, as new nodes do.
func (w *world) node(host string) {
	w.t.Helper()
	_, err := w.SaveObserved(w.ctx, report(host))
	w.must(err)
}

func report(host string) model.Observed {
	return model.Observed{
		Schema: 1, Host: host, BootID: "boot-1", Address: "10.0.0.1:3260", Initiator: "iqn.2026-01.test:" + host,
		Compute: true, Pool: model.ObservedPool{UUID: "pool-" + host, State: "rw", TotalBytes: 100 * gib, FreeBytes: 90 * gib},
	}
}

// current is a report on the node's newest document.
func (w *world) current(host string) model.Observed {
	w.t.Helper()
	o := report(host)
	o.Generation = w.generation(host)
	return o
}

func (w *world) generation(host string) int64 {
	w.t.Helper()
	n, err := w.Node(w.ctx, host)
	w.must(err)
	return n.Generation
}

func (w *world) report(o model.Observed) model.Changes {
	w.t.Helper()
	c, err := w.SaveObserved(w.ctx, o)
	w.must(err)
	return c
}

func image(id uuid.UUID) *model.Image {
	return &model.Image{ID: id, Name: "jammy", DiskFormat: "qcow2", ContainerFormat: "bare", SizeBytes: 1 << 20, Properties: model.StringMap{"os": "linux"}}
}

func vol(gib int) model.Volume {
	return model.Volume{ProjectID: "p1", UserID: "u1", SizeGiB: gib}
}

func (w *world) create(image *model.Image, vols ...model.Volume) []model.Volume {
	w.t.Helper()
	out, err := w.CreateVolumes(w.ctx, vols, image)
	w.must(err)
	return out
}

func (w *world) volume(id uuid.UUID) model.Volume {
	w.t.Helper()
	v, err := w.Volume(w.ctx, id, "")
	w.must(err)
	return v
}

func (w *world) image(id uuid.UUID) model.Image {
	w.t.Helper()
	i, err := w.Image(w.ctx, id)
	w.must(err)
	return i
}

// active makes an image that its root serves from host.
func (w *world) active(host string, virtual int64) uuid.UUID {
	w.t.Helper()
	id := uuid.New()
	w.node(host)
	w.create(image(id), vol(100))
	w.tx(func(t *db.Tx) error {
		if err := t.SetImage(id, model.ImageImporting, nil); err != nil {
			return err
		}
		return t.PutMember(model.Member{ImageID: id, Host: host, Role: model.RoleRoot, State: model.MemberActive})
	})
	w.must(w.FinishImport(w.ctx, id, virtual, (virtual+4095)/4096*4096))
	return id
}

// volumeType makes a public type.
func (w *world) volumeType(name string) model.VolumeType {
	w.t.Helper()
	t, err := w.CreateType(w.ctx, model.VolumeType{Name: name, IsPublic: true})
	w.must(err)
	return t
}

//go:fix inline
func ptr[T any](v T) *T { return new(v) }
