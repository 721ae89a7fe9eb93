package db_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/vmthunder/vmthunder/db/model"
)

func idsOf(vs []model.Volume) []uuid.UUID {
	out := make([]uuid.UUID, len(vs))
	for i, v := range vs {
		out[i] = v.ID
	}
	return out
}

// Pages by marker, put together, are the whole list, whatever the order and however many
// names are alike or missing.
func TestPagesAreTheList(t *testing.T) {
	w := newWorld(t)
	var vols []model.Volume
	for i := range 40 {
		v := vol(i%3 + 1)
		if i%4 > 0 {
			v.Name = new(fmt.Sprintf("n%d", i%5))
		}
		v.Bootable = i%2 == 0
		vols = append(vols, v)
	}
	w.create(nil, vols...)
	w.must(w.ExecRaw(w.ctx, "UPDATE volumes SET created_at = date_trunc('minute', now()) WHERE size_gib = 1"))
	columns := rapid.SampledFrom([]string{"id", "name", "size", "status", "created_at", "updated_at", "bootable", "host", "volume_type", "launched_at", "volume_type_id"})
	rapid.Check(t, func(r *rapid.T) {
		q := model.ListQuery{ProjectID: "p1"}
		for range rapid.IntRange(0, 3).Draw(r, "keys") {
			q.Sort = append(q.Sort, model.SortKey{Column: columns.Draw(r, "column"), Desc: rapid.Bool().Draw(r, "desc")})
		}
		all, err := w.ListVolumes(w.ctx, q)
		if err != nil || len(all) != len(vols) {
			r.Fatalf("%d rows, %v", len(all), err)
		}
		var got []uuid.UUID
		q.Limit = rapid.IntRange(1, 17).Draw(r, "limit")
		for {
			page, err := w.ListVolumes(w.ctx, q)
			if err != nil {
				r.Fatal(err)
			}
			got = append(got, idsOf(page)...)
			if len(page) < q.Limit || len(got) > len(vols) {
				break
			}
			q.Marker = &page[len(page)-1].ID
		}
		if !slices.Equal(got, idsOf(all)) {
			r.Fatalf("sort %v by %d: pages are not the list", q.Sort, q.Limit)
		}
	})
	if all, err := w.ListVolumes(w.ctx, model.ListQuery{ProjectID: "p1", Limit: 5, Offset: 38}); err != nil || len(all) != 2 {
		t.Errorf("offset: %d rows, %v", len(all), err)
	}
}

func TestFilters(t *testing.T) {
	w := newWorld(t)
	a, b, c := vol(1), vol(2), vol(3)
	a.Name, a.Metadata = new("a_b%"), model.StringMap{"k": "v", "l": "w"}
	b.Name, b.Bootable, b.ImageMetadata = new("axb%"), true, model.StringMap{"os": "linux"}
	c.ProjectID = "p2"
	vs := w.create(nil, a, b, c)
	typ := w.volumeType("fast")
	_, err := w.PatchVolume(w.ctx, vs[1].ID, model.VolumePatch{VolumeTypeID: &typ.ID})
	w.must(err)
	at := vs[1].CreatedAt.Format("2006-01-02T15:04:05.999999")
	names := map[uuid.UUID]string{vs[0].ID: "a", vs[1].ID: "b", vs[2].ID: "c"}
	for _, tc := range []struct {
		project string
		filter  model.Filter
		want    string
	}{
		{"", model.Filter{Column: "size", Op: "=", Value: "2"}, "b"},
		{"", model.Filter{Column: "size", Op: "=", Value: "two"}, ""},
		{"", model.Filter{Column: "size", Op: "in", Values: []string{"1", "x", "3"}}, "ac"},
		{"", model.Filter{Column: "size", Op: "in"}, ""},
		{"", model.Filter{Column: "name", Op: "=", Value: "a_b%"}, "a"},
		{"", model.Filter{Column: "name", Op: "like", Value: "_b%"}, "a"},
		{"", model.Filter{Column: "name", Op: "like", Value: "%"}, "ab"},
		{"", model.Filter{Column: "display_name", Op: "like", Value: `\`}, ""},
		{"p1", model.Filter{Column: "name", Op: "in", Values: []string{"a_b%", "z"}}, "a"},
		{"", model.Filter{Column: "id", Op: "=", Value: vs[2].ID.String()}, "c"},
		{"p1", model.Filter{Column: "id", Op: "=", Value: vs[2].ID.String()}, ""},
		{"", model.Filter{Column: "id", Op: "=", Value: "' OR 1=1 --"}, ""},
		{"", model.Filter{Column: "id", Op: "in", Values: []string{vs[0].ID.String(), "junk"}}, "a"},
		{"", model.Filter{Column: "id", Op: "like", Value: vs[0].ID.String()[:8]}, "a"},
		{"", model.Filter{Column: "bootable", Op: "=", Value: "True"}, "b"},
		{"", model.Filter{Column: "bootable", Op: "=", Value: "maybe"}, ""},
		{"", model.Filter{Column: "metadata", Op: "=", Map: model.StringMap{"k": "v"}}, "a"},
		{"", model.Filter{Column: "metadata", Op: "=", Map: model.StringMap{"k": "x"}}, ""},
		{"", model.Filter{Column: "glance_metadata", Op: "=", Map: model.StringMap{"os": "linux"}}, "b"},
		{"", model.Filter{Column: "volume_type", Op: "=", Value: "fast"}, "b"},
		{"", model.Filter{Column: "volume_type_id", Op: "=", Value: typ.ID.String()}, "b"},
		{"", model.Filter{Column: "created_at", Op: "lt", Value: at}, "a"},
		{"", model.Filter{Column: "created_at", Op: "lte", Value: at + "Z"}, "ab"},
		{"", model.Filter{Column: "created_at", Op: "gt", Value: at}, "c"},
		{"", model.Filter{Column: "created_at", Op: "gte", Value: at}, "bc"},
		{"", model.Filter{Column: "created_at", Op: "eq", Value: at}, "b"},
		{"", model.Filter{Column: "created_at", Op: "neq", Value: at}, "ac"},
		{"", model.Filter{Column: "status", Op: "=", Value: "available"}, "abc"},
		{"", model.Filter{Column: "nonsense; DROP TABLE volumes", Op: "=", Value: "x"}, ""},
	} {
		q := model.ListQuery{ProjectID: tc.project, Filters: []model.Filter{tc.filter}, Sort: []model.SortKey{{Column: "created_at"}}}
		got, err := w.ListVolumes(w.ctx, q)
		w.must(err)
		s := ""
		for _, v := range got {
			s += names[v.ID]
		}
		n, err := w.CountVolumes(w.ctx, q)
		w.must(err)
		if s != tc.want || n != len(tc.want) {
			t.Errorf("%+v: %q (count %d), want %q", tc.filter, s, n, tc.want)
		}
	}
	for _, q := range []model.ListQuery{
		{Sort: []model.SortKey{{Column: "nonsense"}}},
		{Sort: []model.SortKey{{Column: "metadata"}}},
		{Filters: []model.Filter{{Column: "name", Op: "lt", Value: "x"}}},
		{Filters: []model.Filter{{Column: "created_at", Op: "lt", Value: "yesterday"}}},
	} {
		if _, err := w.ListVolumes(w.ctx, q); !errors.Is(err, model.ErrInvalid) {
			t.Errorf("%+v: %v", q, err)
		}
	}
	if _, err := w.ListVolumes(w.ctx, model.ListQuery{Marker: new(uuid.New())}); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("unknown marker: %v", err)
	}
	if _, err := w.ListVolumes(w.ctx, model.ListQuery{ProjectID: "p1", Marker: &vs[2].ID}); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("another project's marker: %v", err)
	}
}

func TestListDetail(t *testing.T) {
	w := newWorld(t)
	vs := w.create(nil, vol(1), vol(2), vol(3))
	instance := uuid.New()
	a, err := w.reserve(vs[0].ID, &instance)
	w.must(err)
	_, err = w.reserve(vs[2].ID, nil)
	w.must(err)
	got, err := w.ListVolumes(w.ctx, model.ListQuery{Detail: true, Sort: []model.SortKey{{Column: "size"}}})
	w.must(err)
	if len(got[0].Attachments) != 1 || got[0].Attachments[0].ID != a.ID || len(got[1].Attachments) != 0 || len(got[2].Attachments) != 1 {
		t.Errorf("%+v", got)
	}
	as, err := w.ListAttachments(w.ctx, model.ListQuery{ProjectID: "p1", Filters: []model.Filter{{Column: "instance_id", Op: "=", Value: instance.String()}}})
	w.must(err)
	if len(as) != 1 || as[0].ID != a.ID {
		t.Errorf("%+v", as)
	}
}
