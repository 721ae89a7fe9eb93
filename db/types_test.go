package db_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/vmthunder/vmthunder/db/model"
)

// kinds tells which of the errors of package model err is.
func kinds(err error) string {
	for name, k := range map[string]error{
		"not found": model.ErrNotFound, "conflict": model.ErrConflict, "exists": model.ErrExists, "in use": model.ErrInUse, "invalid": model.ErrInvalid,
	} {
		if errors.Is(err, k) {
			return name
		}
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func TestDefaultTypeIsThere(t *testing.T) {
	w := newWorld(t)
	d, err := w.TypeByName(w.ctx, "__DEFAULT__", "p1")
	w.must(err)
	if !d.IsPublic || d.Description == nil || *d.Description != "Default Volume Type" {
		t.Errorf("%+v", d)
	}
}

func TestTypes(t *testing.T) {
	w := newWorld(t)
	secret, err := w.CreateType(w.ctx, model.VolumeType{Name: "secret", ExtraSpecs: model.StringMap{"degree": "2", "RESKEY:availability_zones": "az1,az2"}})
	w.must(err)
	if _, err := w.CreateType(w.ctx, model.VolumeType{Name: "secret"}); kinds(err) != "exists" || err.Error() != "Volume Type secret already exists." {
		t.Errorf("same name: %v", err)
	}
	w.must(w.AddTypeProject(w.ctx, secret.ID, "p2"))
	if err := w.AddTypeProject(w.ctx, secret.ID, "p2"); kinds(err) != "exists" {
		t.Errorf("twice: %v", err)
	}
	if err := w.AddTypeProject(w.ctx, uuid.New(), "p2"); kinds(err) != "not found" {
		t.Errorf("no such type: %v", err)
	}
	if ps, err := w.TypeProjects(w.ctx, secret.ID); err != nil || len(ps) != 1 || ps[0] != "p2" {
		t.Errorf("%v, %v", ps, err)
	}
	names := func(project string, public *bool, filters ...model.Filter) string {
		ts, err := w.Types(w.ctx, model.ListQuery{ProjectID: project, Filters: filters, Sort: []model.SortKey{{Column: "name"}}}, public)
		w.must(err)
		var out []string
		for _, t := range ts {
			out = append(out, t.Name)
		}
		return strings.Join(out, " ")
	}
	for _, c := range []struct {
		project string
		public  *bool
		want    string
	}{
		{"", nil, "__DEFAULT__ secret"},
		{"p1", nil, "__DEFAULT__"},
		{"p2", nil, "__DEFAULT__ secret"},
		{"", new(false), "secret"},
		{"p1", new(false), ""},
		{"p2", new(true), "__DEFAULT__"},
	} {
		if got := names(c.project, c.public); got != c.want {
			t.Errorf("project %q: %q, want %q", c.project, got, c.want)
		}
	}
	for _, c := range []struct {
		f    model.Filter
		want string
	}{
		{model.Filter{Column: "extra_specs", Map: model.StringMap{"degree": "2"}}, "secret"},
		{model.Filter{Column: "extra_specs", Map: model.StringMap{"degree": "3"}}, ""},
		{model.Filter{Column: "zones", Op: "like", Value: "az2"}, "secret"},
		{model.Filter{Column: "zones", Op: "like", Value: "az_"}, ""},
		{model.Filter{Column: "name", Op: "=", Value: "__DEFAULT__"}, "__DEFAULT__"},
	} {
		if got := names("", nil, c.f); got != c.want {
			t.Errorf("%+v: %q, want %q", c.f, got, c.want)
		}
	}
	for project, want := range map[string]string{"p1": "not found", "p2": "", "": ""} {
		if _, err := w.TypeByName(w.ctx, "secret", project); kinds(err) != want {
			t.Errorf("by name, for %q: %v", project, err)
		}
		if _, err := w.Type(w.ctx, secret.ID, project); kinds(err) != want {
			t.Errorf("by id, for %q: %v", project, err)
		}
	}
	w.must(w.RemoveTypeProject(w.ctx, secret.ID, "p2"))
	if err := w.RemoveTypeProject(w.ctx, secret.ID, "p2"); kinds(err) != "not found" {
		t.Errorf("access twice removed: %v", err)
	}
}

func TestUpdateType(t *testing.T) {
	w := newWorld(t)
	gold := w.volumeType("gold")
	w.volumeType("iron")
	w.must(w.ExecRaw(w.ctx, `INSERT INTO quotas VALUES ('p1', 'volumes_gold', 5), ('p1', 'gigabytes_gold', 6), ('p1', 'snapshots_gold', 7),
		('p1', 'volumes_silver', 99), ('p1', 'volumes', 8)`))
	w.must(w.ExecRaw(w.ctx, "INSERT INTO quota_classes VALUES ('default', 'volumes_gold', 4)"))
	if _, err := w.UpdateType(w.ctx, gold.ID, model.TypePatch{Name: new("iron")}); kinds(err) != "exists" || err.Error() != "Volume Type iron already exists." {
		t.Errorf("a name that is taken: %v", err)
	}
	if _, err := w.UpdateType(w.ctx, uuid.New(), model.TypePatch{Name: new("x")}); kinds(err) != "not found" {
		t.Errorf("unknown: %v", err)
	}
	got, err := w.UpdateType(w.ctx, gold.ID, model.TypePatch{Description: new("d")})
	w.must(err)
	if got.Name != "gold" || *got.Description != "d" || !got.IsPublic || got.UpdatedAt == nil {
		t.Errorf("%+v", got)
	}
	got, err = w.UpdateType(w.ctx, gold.ID, model.TypePatch{Name: new("silver"), IsPublic: new(false)})
	w.must(err)
	if got.Name != "silver" || *got.Description != "d" || got.IsPublic {
		t.Errorf("%+v", got)
	}
	limits, err := w.Limits(w.ctx, "p1")
	w.must(err)
	for k, want := range map[string]int64{"volumes_silver": 5, "gigabytes_silver": 6, "snapshots_silver": 7, "volumes": 8} {
		if limits[k] != want {
			t.Errorf("limit %s is %d, want %d", k, limits[k], want)
		}
	}
	if _, ok := limits["volumes_gold"]; ok {
		t.Error("a quota of the old name is left")
	}
}

func TestExtraSpecsOfTypeInUse(t *testing.T) {
	w := newWorld(t)
	gold := w.volumeType("gold")
	add := func(k, v string) error {
		_, err := w.EditExtraSpecs(w.ctx, gold.ID, func(m model.StringMap) error { m[k] = v; return nil })
		return err
	}
	w.must(add("a", "1"))
	w.must(add("b", "2"))
	refused := errors.New("no")
	if _, err := w.EditExtraSpecs(w.ctx, gold.ID, func(m model.StringMap) error { m["c"] = "3"; return refused }); !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
	v := vol(1)
	v.VolumeTypeID = &gold.ID
	w.create(nil, v)
	if err := add("d", "4"); kinds(err) != "in use" {
		t.Errorf("in use: %v", err)
	}
	got, err := w.Type(w.ctx, gold.ID, "")
	w.must(err)
	if !maps.Equal(got.ExtraSpecs, model.StringMap{"a": "1", "b": "2"}) {
		t.Errorf("specs %v", got.ExtraSpecs)
	}
}

// Two who add specs at the same time do not lose each other's.
func TestExtraSpecsTogether(t *testing.T) {
	w := newWorld(t)
	gold := w.volumeType("gold")
	var g errgroup.Group
	const n = 20
	for i := range n {
		g.Go(func() error {
			_, err := w.EditExtraSpecs(w.ctx, gold.ID, func(m model.StringMap) error { m[string(rune('a'+i))] = "x"; return nil })
			return err
		})
	}
	w.must(g.Wait())
	got, err := w.Type(w.ctx, gold.ID, "")
	w.must(err)
	if len(got.ExtraSpecs) != n {
		t.Errorf("%d specs, want %d", len(got.ExtraSpecs), n)
	}
}

func TestDeleteType(t *testing.T) {
	w := newWorld(t)
	gold := w.volumeType("gold")
	w.must(w.SetDefaultType(w.ctx, model.DefaultType{ProjectID: "p1", VolumeTypeID: gold.ID}))
	if err := w.DeleteType(w.ctx, gold.ID); kinds(err) != "conflict" {
		t.Errorf("default of a project: %v", err)
	}
	w.must(w.UnsetDefaultType(w.ctx, "p1"))
	w.must(w.UnsetDefaultType(w.ctx, "p1"))
	v := vol(1)
	v.VolumeTypeID = &gold.ID
	w.create(nil, v)
	if err := w.DeleteType(w.ctx, gold.ID); kinds(err) != "in use" {
		t.Errorf("in use: %v", err)
	}
	w.must(w.ExecRaw(w.ctx, "DELETE FROM volumes"))
	_, err := w.CreateEncryption(w.ctx, model.Encryption{VolumeTypeID: gold.ID, Provider: "luks", ControlLocation: "front-end"})
	w.must(err)
	w.must(w.AddTypeProject(w.ctx, gold.ID, "p1"))
	w.must(w.DeleteType(w.ctx, gold.ID))
	if _, err := w.Type(w.ctx, gold.ID, ""); kinds(err) != "not found" {
		t.Errorf("gone: %v", err)
	}
	if err := w.DeleteType(w.ctx, gold.ID); kinds(err) != "not found" {
		t.Errorf("gone, once more: %v", err)
	}
}

// A type goes while volumes are made with it: either it is in use, or the volumes can't be
// made. No volume is left with a type that is gone.
func TestDeleteTypeWhileVolumesAreMade(t *testing.T) {
	w := newWorld(t)
	for range 30 {
		typ := w.volumeType(uuid.NewString())
		var wg sync.WaitGroup
		var deleted error
		made := make([]error, 4)
		for i := range made {
			wg.Go(func() {
				v := vol(1)
				v.VolumeTypeID, v.ProjectID = &typ.ID, uuid.NewString() // no quota holds them up
				_, made[i] = w.CreateVolumes(w.ctx, []model.Volume{v}, nil)
			})
		}
		wg.Go(func() { deleted = w.DeleteType(w.ctx, typ.ID) })
		wg.Wait()
		ok := 0
		for _, err := range made {
			if err == nil {
				ok++
			} else if kinds(err) != "not found" {
				t.Fatalf("create: %v", err)
			}
		}
		if deleted == nil && ok > 0 || kinds(deleted) != "" && (kinds(deleted) != "in use" || ok == 0) {
			t.Fatalf("%d volumes were made, deletion: %v", ok, deleted)
		}
	}
}

func TestEncryption(t *testing.T) {
	w := newWorld(t)
	gold := w.volumeType("gold")
	if _, err := w.TypeEncryption(w.ctx, gold.ID); kinds(err) != "not found" {
		t.Errorf("none yet: %v", err)
	}
	if err := w.UpdateEncryption(w.ctx, gold.ID, model.EncryptionPatch{Provider: new("x")}); kinds(err) != "not found" {
		t.Errorf("update of none: %v", err)
	}
	if err := w.DeleteEncryption(w.ctx, gold.ID); kinds(err) != "not found" {
		t.Errorf("delete of none: %v", err)
	}
	e, err := w.CreateEncryption(w.ctx, model.Encryption{
		VolumeTypeID: gold.ID, Provider: "luks", ControlLocation: "front-end", Cipher: new("aes-xts-plain64"), KeySize: new(256),
	})
	w.must(err)
	if e.ID == uuid.Nil || e.CreatedAt.IsZero() {
		t.Errorf("%+v", e)
	}
	if got, err := w.Type(w.ctx, gold.ID, ""); err != nil || !got.Encrypted {
		t.Errorf("the type is not encrypted: %+v, %v", got, err)
	}
	if d, err := w.TypeByName(w.ctx, "__DEFAULT__", ""); err != nil || d.Encrypted {
		t.Errorf("another type is: %+v, %v", d, err)
	}
	if _, err := w.CreateEncryption(w.ctx, e); kinds(err) != "exists" {
		t.Errorf("twice: %v", err)
	}
	w.must(w.UpdateEncryption(w.ctx, gold.ID, model.EncryptionPatch{SetKeySize: true, KeySize: new(512)}))
	w.must(w.UpdateEncryption(w.ctx, gold.ID, model.EncryptionPatch{SetCipher: true}))
	got, err := w.TypeEncryption(w.ctx, gold.ID)
	w.must(err)
	if got.Provider != "luks" || got.ControlLocation != "front-end" || got.Cipher != nil || got.KeySize == nil || *got.KeySize != 512 || got.UpdatedAt == nil {
		t.Errorf("%+v", got)
	}
	// A volume without a key can't be made with it, whoever forgot to look, nor get it later.
	v := vol(1)
	v.VolumeTypeID = &gold.ID
	if _, err := w.CreateVolumes(w.ctx, []model.Volume{vol(1), v}, nil); kinds(err) != "conflict" || !strings.Contains(err.Error(), "the volume has no key") {
		t.Errorf("a volume without a key: %v", err)
	}
	plain := w.create(nil, vol(1))[0]
	if _, err := w.PatchVolume(w.ctx, plain.ID, model.VolumePatch{VolumeTypeID: &gold.ID}); kinds(err) != "conflict" {
		t.Errorf("a type without a key: %v", err)
	}
	key := uuid.New()
	v.EncryptionKeyID = &key
	w.create(nil, v)
	for name, err := range map[string]error{
		"update": w.UpdateEncryption(w.ctx, gold.ID, model.EncryptionPatch{Provider: new("x")}), "delete": w.DeleteEncryption(w.ctx, gold.ID),
	} {
		if kinds(err) != "in use" {
			t.Errorf("%s while in use: %v", name, err)
		}
	}
}

// A type becomes encrypted while volumes are made with it: no volume without a key is left
// in a type that is.
func TestEncryptWhileVolumesAreMade(t *testing.T) {
	w := newWorld(t)
	for range 30 {
		typ := w.volumeType(uuid.NewString())
		var wg sync.WaitGroup
		var encrypted, made error
		wg.Go(func() {
			v := vol(1)
			v.VolumeTypeID = &typ.ID
			_, made = w.CreateVolumes(w.ctx, []model.Volume{v}, nil)
		})
		wg.Go(func() {
			_, encrypted = w.CreateEncryption(w.ctx, model.Encryption{VolumeTypeID: typ.ID, Provider: "luks", ControlLocation: "front-end"})
		})
		wg.Wait()
		switch {
		case made == nil && kinds(encrypted) == "in use":
		case encrypted == nil && kinds(made) == "conflict":
		default:
			t.Fatalf("volume: %v, encryption: %v", made, encrypted)
		}
	}
}

func TestDefaultTypesOfProjects(t *testing.T) {
	w := newWorld(t)
	gold, iron := w.volumeType("gold"), w.volumeType("iron")
	if _, err := w.DefaultType(w.ctx, "p1"); kinds(err) != "not found" {
		t.Errorf("none: %v", err)
	}
	if err := w.SetDefaultType(w.ctx, model.DefaultType{ProjectID: "p1", VolumeTypeID: uuid.New()}); kinds(err) != "not found" {
		t.Errorf("no such type: %v", err)
	}
	w.must(w.SetDefaultType(w.ctx, model.DefaultType{ProjectID: "p1", VolumeTypeID: gold.ID}))
	w.must(w.SetDefaultType(w.ctx, model.DefaultType{ProjectID: "p2", VolumeTypeID: gold.ID}))
	w.must(w.SetDefaultType(w.ctx, model.DefaultType{ProjectID: "p1", VolumeTypeID: iron.ID}))
	if d, err := w.DefaultType(w.ctx, "p1"); err != nil || d.VolumeTypeID != iron.ID {
		t.Errorf("%+v, %v", d, err)
	}
	for project, want := range map[string]string{"p1": "iron", "p2": "gold", "p3": "__DEFAULT__"} {
		if got, err := w.DefaultTypeOf(w.ctx, project, "__DEFAULT__"); err != nil || got.Name != want {
			t.Errorf("default type of %s is %q, want %q (%v)", project, got.Name, want, err)
		}
	}
	if _, err := w.DefaultTypeOf(w.ctx, "p3", "nope"); kinds(err) != "not found" {
		t.Errorf("no default: %v", err)
	}
	all, err := w.DefaultTypes(w.ctx)
	w.must(err)
	if len(all) != 2 || all[0].ProjectID != "p1" || all[1].VolumeTypeID != gold.ID {
		t.Errorf("%+v", all)
	}
}

func TestQoS(t *testing.T) {
	w := newWorld(t)
	gold, iron := w.volumeType("gold"), w.volumeType("iron")
	q, err := w.CreateQoS(w.ctx, model.QoS{Name: "fast", Consumer: "front-end", Specs: model.StringMap{"read_iops_sec": "100"}})
	w.must(err)
	other, err := w.CreateQoS(w.ctx, model.QoS{Name: "slow"})
	w.must(err)
	if other.Consumer != "back-end" {
		t.Errorf("consumer %q", other.Consumer)
	}
	if _, err := w.CreateQoS(w.ctx, model.QoS{Name: "fast"}); kinds(err) != "exists" || err.Error() != "QoS Specs fast already exists." {
		t.Errorf("same name: %v", err)
	}
	if all, err := w.ListQoS(w.ctx, model.ListQuery{Sort: []model.SortKey{{Column: "name"}}}); err != nil || len(all) != 2 || all[0].ID != q.ID {
		t.Errorf("%+v, %v", all, err)
	}
	edited, err := w.EditQoS(w.ctx, q.ID, func(q *model.QoS) error { q.Consumer, q.Specs["x"] = "both", "y"; return nil })
	w.must(err)
	if !maps.Equal(edited.Specs, model.StringMap{"read_iops_sec": "100", "x": "y"}) || edited.Consumer != "both" || edited.UpdatedAt == nil {
		t.Errorf("%+v", edited)
	}
	w.must(w.AssociateQoS(w.ctx, q.ID, gold.ID))
	w.must(w.AssociateQoS(w.ctx, q.ID, gold.ID))
	w.must(w.AssociateQoS(w.ctx, q.ID, iron.ID))
	if err := w.AssociateQoS(w.ctx, other.ID, gold.ID); kinds(err) != "conflict" || !strings.Contains(err.Error(), q.ID.String()) {
		t.Errorf("a type that has others: %v", err)
	}
	if err := w.AssociateQoS(w.ctx, uuid.New(), w.volumeType("plain").ID); kinds(err) != "not found" {
		t.Errorf("no such specs: %v", err)
	}
	if err := w.DeleteQoS(w.ctx, q.ID, false); kinds(err) != "in use" {
		t.Errorf("in use: %v", err)
	}
	w.must(w.DisassociateQoS(w.ctx, other.ID, &gold.ID)) // not its own: nothing happens
	if ts, err := w.QoSTypes(w.ctx, q.ID); err != nil || len(ts) != 2 || ts[0].ID != gold.ID {
		t.Errorf("%+v, %v", ts, err)
	}
	o, err := w.AttachOptions(w.ctx, gold.ID)
	w.must(err)
	if o.QoS == nil || o.QoS.Consumer != "both" || o.QoS.Specs["x"] != "y" || o.Cacheable {
		t.Errorf("%+v", o)
	}
	w.must(w.DisassociateQoS(w.ctx, q.ID, &gold.ID))
	_, err = w.EditExtraSpecs(w.ctx, gold.ID, func(m model.StringMap) error { m["cacheable"] = "<is> True"; return nil })
	w.must(err)
	if o, err = w.AttachOptions(w.ctx, gold.ID); err != nil || o.QoS != nil || !o.Cacheable {
		t.Errorf("%+v, %v", o, err)
	}
	if o, err = w.AttachOptions(w.ctx, uuid.New()); err != nil || o.QoS != nil || o.Cacheable {
		t.Errorf("of no type: %+v, %v", o, err)
	}
	w.must(w.DeleteQoS(w.ctx, q.ID, true))
	if got, err := w.Type(w.ctx, iron.ID, ""); err != nil || got.QoSSpecsID != nil {
		t.Errorf("%+v, %v", got, err)
	}
	if err := w.DeleteQoS(w.ctx, q.ID, true); kinds(err) != "not found" {
		t.Errorf("gone: %v", err)
	}
}

// A hypervisor is not told anew of QoS specs while it runs, so those that it was told stay.
func TestRetypeInUse(t *testing.T) {
	w := newWorld(t)
	specs := map[string]uuid.UUID{}
	for name, consumer := range map[string]string{"front": "front-end", "both": "both", "back": "back-end", "back2": "back-end"} {
		q, err := w.CreateQoS(w.ctx, model.QoS{Name: name, Consumer: consumer})
		w.must(err)
		specs[name] = q.ID
	}
	kind := func(name, qos string) uuid.UUID {
		typ := w.volumeType(name)
		if qos != "" {
			w.must(w.AssociateQoS(w.ctx, specs[qos], typ.ID))
		}
		return typ.ID
	}
	types := map[string]uuid.UUID{
		"plain": kind("plain", ""), "front": kind("front", "front"), "front2": kind("front2", "front"), "both": kind("both", "both"),
		"back": kind("back", "back"), "back2": kind("back2", "back2"),
	}
	for _, c := range []struct {
		from, to string
		ok       bool
	}{
		{"plain", "back", true},
		{"back", "back2", true},
		{"back", "plain", true},
		{"front", "front2", true},
		{"plain", "front", false},
		{"front", "plain", false},
		{"front", "both", false},
		{"both", "back", false},
	} {
		v := vol(1)
		id := types[c.from]
		v.VolumeTypeID = &id
		v = w.create(nil, v)[0]
		w.must(w.ResetVolume(w.ctx, v.ID, new(model.VolumeInUse), nil, nil))
		if err := w.retype(v.ID, types[c.to], false, []model.VolumeStatus{model.VolumeInUse}); kinds(err) != map[bool]string{true: "", false: "conflict"}[c.ok] {
			t.Errorf("%s to %s in use: %v", c.from, c.to, err)
		}
		w.must(w.ResetVolume(w.ctx, v.ID, new(model.VolumeAvailable), nil, nil))
		if err := w.retype(v.ID, types[c.to], false, []model.VolumeStatus{model.VolumeAvailable}); err != nil {
			t.Errorf("%s to %s: %v", c.from, c.to, err)
		}
	}
}

// QoS specs are deleted while types get them: a type never has specs that are gone.
func TestDeleteQoSWhileAssociating(t *testing.T) {
	w := newWorld(t)
	gold := w.volumeType("gold")
	for range 30 {
		q, err := w.CreateQoS(w.ctx, model.QoS{Name: uuid.NewString()})
		w.must(err)
		var g sync.WaitGroup
		var associated, deleted error
		g.Go(func() { associated = w.AssociateQoS(w.ctx, q.ID, gold.ID) })
		g.Go(func() { deleted = w.DeleteQoS(w.ctx, q.ID, false) })
		g.Wait()
		switch {
		case associated == nil && kinds(deleted) == "in use":
			w.must(w.DeleteQoS(context.WithoutCancel(w.ctx), q.ID, true))
		case kinds(associated) == "not found" && deleted == nil:
		default:
			t.Fatalf("associate: %v, delete: %v", associated, deleted)
		}
	}
}
