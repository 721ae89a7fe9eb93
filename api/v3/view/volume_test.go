package view_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/keystone"
	"github.com/vmthunder/vmthunder/api/microversion"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

func aVolume() model.Volume {
	id := uuid.MustParse("6edbc2f4-1507-44f8-ac0d-eed1d2608d38")
	instance := uuid.MustParse("f4fda93b-06e0-4743-8117-bc8bcecd651b")
	at := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	return model.Volume{
		ID: id, ProjectID: "p1", UserID: "u1", Name: new("n"), SizeGiB: 2, Status: model.VolumeInUse, AttachStatus: model.AttachAttached,
		AvailabilityZone: "nova", VolumeTypeID: &instance, VolumeType: new("fast"), Bootable: true, ConsumesQuota: true,
		Metadata: model.StringMap{"a": "b"}, AdminMetadata: model.StringMap{"readonly": "False"},
		ImageMetadata: model.StringMap{"image_id": "i"}, Home: new("h1"), CreatedAt: at, UpdatedAt: &at,
		Attachments: []model.Attachment{
			{ID: id, InstanceUUID: &instance, Status: model.AttachAttached, AttachedHost: new("h1"), Mountpoint: new("/dev/vdb"), AttachedAt: &at},
			{ID: id, Status: model.AttachReserved},
		},
	}
}

func object(t *testing.T, v any) view.Object {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var o view.Object
	if err := json.Unmarshal(b, &o); err != nil {
		t.Fatal(err)
	}
	return o
}

// What every caller sees at every version, and what is added for whom and when.
func TestVolumeFields(t *testing.T) {
	v := aVolume()
	common := func(hostName any) view.Object {
		return view.Object{
			"id": v.ID.String(), "name": "n", "description": nil, "status": "in-use", "size": 2.0, "availability_zone": "nova",
			"created_at": "2026-01-02T03:04:05.000006", "updated_at": "2026-01-02T03:04:05.000006", "volume_type": "fast",
			"snapshot_id": nil, "source_volid": nil, "metadata": view.Object{"a": "b"}, "user_id": "u1", "bootable": "true",
			"encrypted": false, "replication_status": nil, "consistencygroup_id": nil, "multiattach": false,
			"links": []any{
				view.Object{"rel": "self", "href": "http://c/v3/p1/volumes/" + v.ID.String()},
				view.Object{"rel": "bookmark", "href": "http://c/p1/volumes/" + v.ID.String()},
			},
			"attachments": []any{view.Object{
				"id": v.ID.String(), "attachment_id": v.ID.String(), "volume_id": v.ID.String(), "device": "/dev/vdb", "host_name": hostName,
				"server_id": "f4fda93b-06e0-4743-8117-bc8bcecd651b", "attached_at": "2026-01-02T03:04:05.000006",
			}},
		}
	}
	since := []struct {
		version int
		admin   bool // administrators only
		fields  view.Object
	}{
		{0, true, view.Object{"migration_status": nil}},
		{13, false, view.Object{"group_id": nil}},
		{21, true, view.Object{"provider_id": nil}},
		{48, false, view.Object{"shared_targets": false, "service_uuid": nil}},
		{61, true, view.Object{"cluster_name": nil}},
		{63, false, view.Object{"volume_type_id": "f4fda93b-06e0-4743-8117-bc8bcecd651b"}},
		{65, false, view.Object{"consumes_quota": true}},
	}
	for _, admin := range []bool{false, true} {
		for _, version := range []int{0, 12, 13, 21, 48, 60, 61, 62, 63, 64, 65, 70} {
			c := view.Context{Base: "http://c", Project: "p1", Version: microversion.Version(version), Identity: keystone.Identity{ProjectID: "p1", Admin: admin}}
			var host any
			if admin {
				host = "h1"
			}
			want := common(host)
			for _, s := range since {
				if version >= s.version && (admin || !s.admin) {
					for k, x := range s.fields {
						want[k] = x
					}
				}
			}
			if d := cmp.Diff(want, object(t, c.Volume(&v))); d != "" {
				t.Errorf("3.%d, admin %v:\n%s", version, admin, d)
			}
			want["metadata"] = view.Object{"a": "b", "readonly": "False"}
			want["os-vol-tenant-attr:tenant_id"] = "p1"
			want["volume_image_metadata"] = view.Object{"image_id": "i"}
			if admin {
				want["os-vol-host-attr:host"] = "h1@vmthunder#vmthunder"
				want["os-vol-mig-status-attr:migstat"], want["os-vol-mig-status-attr:name_id"] = nil, nil
			}
			rows := c.VolumeDetails([]model.Volume{v}, nil)
			if d := cmp.Diff(want, object(t, rows[0])); d != "" || len(rows) != 1 {
				t.Errorf("3.%d in detail, admin %v:\n%s", version, admin, d)
			}
		}
	}
}

// Fields under rules are decided per project, whatever the order of the rows.
func TestVolumeDetailsOfProjects(t *testing.T) {
	vols := []model.Volume{aVolume(), aVolume(), aVolume()}
	vols[1].ProjectID = "p2"
	c := view.Context{Version: 70, Identity: keystone.Identity{ProjectID: "p1"}}
	for i, row := range c.VolumeDetails(vols, nil) {
		_, shown := object(t, row)["volume_image_metadata"]
		if want := i != 1; shown != want {
			t.Errorf("row %d of %s: image metadata shown %v", i, vols[i].ProjectID, shown)
		}
	}
}

func BenchmarkVolumeDetails(b *testing.B) {
	vols := make([]model.Volume, 1000)
	for i := range vols {
		vols[i] = aVolume()
	}
	c := view.Context{Base: "http://c", Project: "p1", Version: 70, Identity: keystone.Identity{ProjectID: "p1", Admin: true}}
	for b.Loop() {
		if _, err := json.Marshal(view.Object{"volumes": c.VolumeDetails(vols, nil)}); err != nil {
			b.Fatal(err)
		}
	}
}
