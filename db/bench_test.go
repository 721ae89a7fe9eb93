package db_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db"
	"github.com/vmthunder/vmthunder/db/dbtest"
	"github.com/vmthunder/vmthunder/db/model"
)

func BenchmarkCreate100(b *testing.B) {
	store, id := dbtest.New(b), uuid.New()
	vols := make([]model.Volume, 100)
	for i := range vols {
		vols[i] = vol(1)
	}
	for b.Loop() {
		if _, err := store.CreateVolumes(context.Background(), vols, image(id)); err != nil {
			b.Fatal(err)
		}
	}
}

// A report of a node that relays 20 images and keeps 20 volumes, all counters changed.
func BenchmarkSaveObserved(b *testing.B) {
	ctx, store := context.Background(), dbtest.New(b)
	o := report("h1")
	for _, h := range []string{"h0", "h1"} {
		if _, err := store.SaveObserved(ctx, report(h)); err != nil {
			b.Fatal(err)
		}
	}
	for range 20 {
		id := uuid.New()
		vs, err := store.CreateVolumes(ctx, []model.Volume{vol(1)}, image(id))
		if err != nil {
			b.Fatal(err)
		}
		err = store.Tx(ctx, func(t *db.Tx) error {
			if _, err := t.SetHome(vs[0].ID, "h1"); err != nil {
				return err
			}
			if err := t.PutMember(model.Member{ImageID: id, Host: "h0", Role: model.RoleRoot, State: model.MemberActive}); err != nil {
				return err
			}
			return t.PutMember(model.Member{ImageID: id, Host: "h1", Role: model.RoleRelay, State: model.MemberActive, Parent: new("h0")})
		})
		if err != nil {
			b.Fatal(err)
		}
		o.Images = append(o.Images, model.ObservedImage{ID: id.String(), State: model.DeviceReady})
		o.Volumes = append(o.Volumes, model.ObservedVolume{ID: vs[0].ID.String(), State: model.DeviceReady, Materialized: true})
	}
	for b.Loop() {
		for i := range o.Images {
			o.Images[i].ReadBytes++
		}
		if _, err := store.SaveObserved(ctx, o); err != nil {
			b.Fatal(err)
		}
	}
}

// A burst of 100 joins in one transaction.
func BenchmarkPlace100(b *testing.B) {
	ctx, store := context.Background(), dbtest.New(b)
	for i := range 101 {
		if _, err := store.SaveObserved(ctx, report(fmt.Sprintf("h%d", i))); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		id := uuid.New()
		if _, err := store.CreateVolumes(ctx, []model.Volume{vol(1)}, image(id)); err != nil {
			b.Fatal(err)
		}
		err := store.Tx(ctx, func(t *db.Tx) error {
			if err := t.PutMember(model.Member{ImageID: id, Host: "h0", Role: model.RoleRoot, State: model.MemberActive}); err != nil {
				return err
			}
			for i := range 100 {
				h, p := fmt.Sprintf("h%d", i+1), fmt.Sprintf("h%d", i/10)
				if err := t.PutMember(model.Member{ImageID: id, Host: h, Role: model.RoleRelay, State: model.MemberJoining, Parent: &p}); err != nil {
					return err
				}
				_ = t.Bump(h, p)
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// 16 at a time create a volume each from an image that is here.
func BenchmarkCreateAtOnce(b *testing.B) {
	ctx, store := context.Background(), dbtest.New(b, db.Options{QuotaDefaults: map[string]int64{"volumes": -1, "gigabytes": -1}})
	id := uuid.New()
	if _, err := store.SaveObserved(ctx, report("h1")); err != nil {
		b.Fatal(err)
	}
	if _, err := store.CreateVolumes(ctx, []model.Volume{vol(1)}, image(id)); err != nil {
		b.Fatal(err)
	}
	err := store.Tx(ctx, func(t *db.Tx) error { return t.SetImage(id, model.ImageImporting, nil) })
	if err != nil {
		b.Fatal(err)
	}
	if err := store.FinishImport(ctx, id, 4096, 4096); err != nil {
		b.Fatal(err)
	}
	b.SetParallelism(16 / runtime.GOMAXPROCS(0))
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			v := vol(1)
			v.ConsumesQuota = true
			if _, err := store.CreateVolumes(ctx, []model.Volume{v}, image(id)); err != nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkVolume(b *testing.B) {
	ctx, store := context.Background(), dbtest.New(b)
	vs, err := store.CreateVolumes(ctx, []model.Volume{vol(1)}, nil)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := store.Volume(ctx, vs[0].ID, "p1"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkList1000(b *testing.B) {
	ctx, store := context.Background(), dbtest.New(b)
	vs := make([]model.Volume, 1000)
	for i := range vs {
		vs[i] = vol(1)
		vs[i].Metadata, vs[i].ImageMetadata = model.StringMap{"a": "b"}, model.StringMap{"image_id": uuid.NewString(), "image_name": "jammy"}
	}
	if _, err := store.CreateVolumes(ctx, vs, nil); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := store.ListVolumes(ctx, model.ListQuery{ProjectID: "p1", Limit: 1000, Detail: true}); err != nil {
			b.Fatal(err)
		}
	}
}
