package v3

import (
	"crypto/md5" //nolint:gosec // the ETag of Cinder's API, no secret
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/schema"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

// maxMetadata is how many characters a key or a value may have.
const maxMetadata = 255

// annotated is a noun that has metadata: how it is read and written.
type annotated struct {
	path string // of one of it
	noun string // in "… has no metadata with key …"
	tags bool   // its metadata have an ETag and obey If-Match (3.15)
	// strict: a body with one pair has a schema in Cinder.
	strict bool
	// Rules of the policy; merge is that of POST, put of the two PUTs.
	get, merge, put, remove string

	read func(c *call, rule string) (model.StringMap, error)
	// edit returns the metadata after the change, which must be pure: it may run again.
	edit func(c *call, rule string, change func(model.StringMap) error) (model.StringMap, error)
}

func (a *API) metadataRoutes() []route {
	volumes := annotated{
		path: "/volumes/{id}", noun: "Volume", tags: true, strict: true, get: "volume:get_volume_metadata", merge: "volume:create_volume_metadata",
		put: "volume:update_volume_metadata", remove: "volume:delete_volume_metadata",
		read: func(c *call, rule string) (model.StringMap, error) {
			v, err := a.volume(c, rule)
			return v.Metadata, err
		},
		edit: a.editVolumeMetadata,
	}
	snapshots := annotated{
		path: "/snapshots/{id}", noun: "Snapshot", get: "volume:get_snapshot_metadata", merge: "volume:update_snapshot_metadata",
		put: "volume:update_snapshot_metadata", remove: "volume:delete_snapshot_metadata",
		read: func(c *call, rule string) (model.StringMap, error) {
			s, err := a.snapshot(c, rule)
			return s.Metadata, err
		},
		edit: a.editSnapshotMetadata,
	}
	return append(volumes.routes(), snapshots.routes()...)
}

func (n annotated) routes() []route {
	all, one := n.path+"/metadata", n.path+"/metadata/{key}"
	return []route{
		{method: "GET", path: all, h: n.show},
		{method: "POST", path: all, h: func(c *call) error { return n.write(c, n.merge, false) }},
		{method: "PUT", path: all, h: func(c *call) error { return n.write(c, n.put, true) }},
		{method: "GET", path: one, h: n.showKey},
		{method: "PUT", path: one, h: n.putKey},
		{method: "DELETE", path: one, h: n.deleteKey},
	}
}

// etag is the hash of the metadata as Cinder writes it (3.15); ours sorts the keys.
func etag(m model.StringMap) string {
	if m == nil {
		m = model.StringMap{}
	}
	b, err := json.Marshal(view.Object{"metadata": m})
	if err != nil { // strings only
		return ""
	}
	sum := md5.Sum(b) //nolint:gosec // see the import
	return hex.EncodeToString(sum[:])
}

// ifMatch checks the header If-Match against the metadata (3.15).
func (c *call) ifMatch(m model.StringMap) error {
	want := c.r.Header.Get("If-Match")
	if c.mv < 15 || want == "" {
		return nil
	}
	for _, tag := range strings.Split(want, ",") {
		tag = strings.Trim(strings.TrimPrefix(strings.TrimSpace(tag), "W/"), `"`)
		if tag == "*" || tag == etag(m) {
			return nil
		}
	}
	return fault.New(http.StatusPreconditionFailed, "The metadata has changed meanwhile.")
}

// annotatable refuses metadata of a volume that is read as it is now.
func annotatable(v model.Volume) error {
	if slices.Contains([]model.VolumeStatus{model.VolumeMaintenance, model.VolumeUploading}, v.Status) {
		return fault.InvalidVolume("Updating volume metadata is not allowed for volumes in %s status.", v.Status)
	}
	return nil
}

// editVolumeMetadata obeys If-Match.
func (a *API) editVolumeMetadata(c *call, rule string, change func(model.StringMap) error) (model.StringMap, error) {
	v, err := a.volume(c, rule)
	if err != nil {
		return nil, err
	}
	if rule != "volume:delete_volume_metadata" { // taking away is always allowed
		if err := annotatable(v); err != nil {
			return nil, err
		}
	}
	v, err = a.Store.EditVolumeMaps(c.ctx(), v.ID, func(m, _ model.StringMap) error {
		if err := c.ifMatch(m); err != nil {
			return err
		}
		return change(m)
	})
	return v.Metadata, notFound(err, noVolume, c.vars["id"])
}

func (a *API) editSnapshotMetadata(c *call, rule string, change func(model.StringMap) error) (model.StringMap, error) {
	s, err := a.snapshot(c, rule)
	if err != nil {
		return nil, err
	}
	s, err = a.Store.EditSnapshotMetadata(c.ctx(), s.ID, change)
	return s.Metadata, notFound(err, noSnapshot, c.vars["id"])
}

// send answers with the metadata and their ETag.
func (n annotated) send(c *call, m model.StringMap) error {
	if m == nil {
		m = model.StringMap{}
	}
	if n.tags && c.mv >= 15 {
		c.w.Header().Set("ETag", etag(m))
	}
	return c.json(http.StatusOK, view.Object{"metadata": m})
}

func (n annotated) show(c *call) error {
	m, err := n.read(c, n.get)
	if err != nil {
		return err
	}
	return n.send(c, m)
}

// body reads {"metadata": {…}}.
func (n annotated) body(c *call) (map[string]string, error) {
	body, err := c.parse()
	if err != nil {
		return nil, err
	}
	if err := body.Require("metadata"); err != nil {
		return nil, err
	}
	if n.strict {
		if err := body.Only("metadata"); err != nil {
			return nil, err
		}
	}
	in, err := body.Object("metadata")
	if err != nil {
		return nil, err
	}
	if !n.strict {
		if err := tooLong(in); err != nil {
			return nil, err
		}
	}
	m, err := in.AsMetadata()
	return writable(m), err
}

// tooLong is a 413 for what has no schema in Cinder.
func tooLong(in *schema.Object) error {
	for _, key := range in.Keys() {
		switch {
		case utf8.RuneCountInString(key) > maxMetadata:
			return fault.New(http.StatusRequestEntityTooLarge, "Invalid metadata size: Metadata property key %s greater than %d characters.", key, maxMetadata)
		case utf8.RuneCountInString(schema.Str(in.Raw(key))) > maxMetadata:
			return fault.New(http.StatusRequestEntityTooLarge, "Invalid metadata size: Metadata property key %s value greater than %d characters.",
				key, maxMetadata)
		}
	}
	return nil
}

func (n annotated) write(c *call, rule string, replace bool) error {
	given, err := n.body(c)
	if err != nil {
		return err
	}
	m, err := n.edit(c, rule, func(old model.StringMap) error {
		if replace {
			clear(old)
		}
		maps.Copy(old, given)
		return nil
	})
	if err != nil {
		return err
	}
	return n.send(c, m)
}

func (n annotated) noKey(c *call) error {
	return fault.NotFound("%s %s has no metadata with key %s.", n.noun, c.vars["id"], c.vars["key"])
}

func (n annotated) showKey(c *call) error {
	m, err := n.read(c, n.get)
	if err != nil {
		return err
	}
	x, ok := m[c.vars["key"]]
	if !ok {
		return n.noKey(c)
	}
	return c.json(http.StatusOK, view.Object{"meta": view.Object{c.vars["key"]: x}})
}

func (n annotated) putKey(c *call) error {
	in, err := c.inner("meta")
	if err != nil {
		return err
	}
	switch k := len(in.Keys()); {
	case !n.strict:
	case k < 1:
		return in.InvalidSelf("{} does not have enough properties")
	case k > 1:
		return in.InvalidSelf("%s has too many properties", schema.Repr(in.Self()))
	}
	m, err := onePair(in, c.vars["key"])
	if err != nil {
		return err
	}
	m = writable(m)
	if _, err := n.edit(c, n.put, func(old model.StringMap) error {
		maps.Copy(old, m)
		return nil
	}); err != nil {
		return err
	}
	return c.json(http.StatusOK, view.Object{"meta": m})
}

// onePair reads {key: value} where the key is that of the URL.
func onePair(in *schema.Object, key string) (map[string]string, error) {
	m, err := in.AsStrings()
	if err != nil {
		return nil, err
	}
	if _, ok := m[key]; !ok {
		return nil, fault.BadRequest("Request body and URI mismatch")
	}
	if len(m) != 1 {
		return nil, fault.BadRequest("Request body contains too many items")
	}
	return m, nil
}

func (n annotated) deleteKey(c *call) error {
	if _, err := n.edit(c, n.remove, func(m model.StringMap) error {
		if _, ok := m[c.vars["key"]]; !ok {
			return n.noKey(c)
		}
		delete(m, c.vars["key"])
		return nil
	}); err != nil {
		return err
	}
	return c.emptyHTML(http.StatusOK)
}
