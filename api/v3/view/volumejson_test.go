package view_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/vmthunder/vmthunder/api/keystone"
	"github.com/vmthunder/vmthunder/api/microversion"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

// TestRowsAreJSON: rows that write themselves are those that encoding/json writes, of any
// volume, for anybody, at every version.
func TestRowsAreJSON(t *testing.T) {
	text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", "plain", `"<&>\`, "\u2028\u0000\x7f", "é\xff", "2026-11-26T09:00:00.000000"}))
	maybe := rapid.Ptr(text, true)
	id := rapid.Custom(func(t *rapid.T) uuid.UUID { return uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id")) })
	ids := rapid.Ptr(id, true)
	maps := rapid.Map(rapid.MapOfN(text, text, 0, 3), func(m map[string]string) model.StringMap { return m })
	rapid.Check(t, func(t *rapid.T) {
		stamp := rapid.Ptr(rapid.Map(rapid.Int64Range(1, 1<<50), time.UnixMicro), true)
		v := model.Volume{
			ID: id.Draw(t, "id"), ProjectID: text.Draw(t, "project"), UserID: text.Draw(t, "user"), Name: maybe.Draw(t, "name"),
			Description: maybe.Draw(t, "description"), Status: model.VolumeStatus(text.Draw(t, "status")), SizeGiB: rapid.Int().Draw(t, "size"),
			AvailabilityZone: text.Draw(t, "zone"), VolumeType: maybe.Draw(t, "type"), VolumeTypeID: ids.Draw(t, "type id"),
			SnapshotID: ids.Draw(t, "snapshot"), SourceVolID: ids.Draw(t, "source"), GroupID: ids.Draw(t, "group"),
			EncryptionKeyID: ids.Draw(t, "key"), Metadata: maps.Draw(t, "metadata"), ImageMetadata: maps.Draw(t, "image"),
			MigrationStatus: maybe.Draw(t, "migration"), Home: maybe.Draw(t, "home"), Bootable: rapid.Bool().Draw(t, "bootable"),
			ConsumesQuota: rapid.Bool().Draw(t, "quota"), UpdatedAt: stamp.Draw(t, "updated"), Multiattach: rapid.Bool().Draw(t, "multi"),
		}
		if rapid.Bool().Draw(t, "attached") {
			v.Attachments = []model.Attachment{{ID: id.Draw(t, "a"), Status: model.AttachAttached, Mountpoint: maybe.Draw(t, "mountpoint"), AttachedAt: stamp.Draw(t, "at")}}
		}
		c := view.Context{
			Base: "http://vt.example", Project: text.Draw(t, "URL"), Version: microversion.Version(rapid.IntRange(0, 70).Draw(t, "version")),
			Identity: keystone.Identity{ProjectID: v.ProjectID, Admin: rapid.Bool().Draw(t, "admin")},
		}
		rows := c.VolumeDetails([]model.Volume{v, v}, nil)
		want, err := json.Marshal([]*view.Volume(rows))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(rows.AppendJSON(nil)); got != string(want) {
			t.Fatalf("\n%s, want\n%s", got, want)
		}
	})
	// A field that is added to the struct is added to what writes it.
	if n := reflect.TypeFor[view.Volume]().NumField(); n != 32 {
		t.Errorf("Volume has %d fields: does AppendJSON write them all?", n)
	}
}
