package db_test

import (
	"testing"

	"github.com/vmthunder/vmthunder/db/model"
)

// A patch writes what it holds, and takes a name away only if it says so.
func TestPatchSnapshot(t *testing.T) {
	w := newWorld(t)
	id := w.snapshot(w.create(nil, vol(1))[0].ID, "available", 1)
	for i, p := range []model.SnapshotPatch{
		{Name: new("n"), Description: new("d")}, {Metadata: model.StringMap{"a": "b"}}, {NoName: true}, {NoDescription: true},
	} {
		got, err := w.PatchSnapshot(w.ctx, id, p)
		w.must(err)
		if named, described := got.Name != nil, got.Description != nil; named != (i < 2) || described != (i < 3) || got.UpdatedAt == nil {
			t.Errorf("%d: %+v", i, got)
		}
	}
}
