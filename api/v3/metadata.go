package v3

import (
	"crypto/md5" //nolint:gosec // the ETag of Cinder's API, no secret
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/schema"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

func (a *API) metadataRoutes() []route {
	return []route{
		{method: "GET", path: "/volumes/{id}/metadata", h: a.showMetadata},
		{method: "POST", path: "/volumes/{id}/metadata", h: a.mergeMetadata},
		{method: "PUT", path: "/volumes/{id}/metadata", h: a.replaceMetadata},
		{method: "GET", path: "/volumes/{id}/metadata/{key}", h: a.showMetadataKey},
		{method: "PUT", path: "/volumes/{id}/metadata/{key}", h: a.putMetadataKey},
		{method: "DELETE", path: "/volumes/{id}/metadata/{key}", h: a.deleteMetadataKey},
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

// sendMetadata answers with metadata and, from 3.15 on, its ETag.
func (c *call) sendMetadata(m model.StringMap) error {
	if m == nil {
		m = model.StringMap{}
	}
	if c.mv >= 15 {
		c.w.Header().Set("ETag", etag(m))
	}
	return c.json(http.StatusOK, view.Object{"metadata": m})
}

func (a *API) showMetadata(c *call) error {
	v, err := a.volume(c, "volume:get_volume_metadata")
	if err != nil {
		return err
	}
	return c.sendMetadata(v.Metadata)
}

// editMetadata changes a volume's metadata by edit, which must be pure: it may run again.
func (a *API) editMetadata(c *call, rule string, edit func(m model.StringMap) error) (model.Volume, error) {
	v, err := a.volume(c, rule)
	if err != nil {
		return v, err
	}
	if slices.Contains([]model.VolumeStatus{model.VolumeMaintenance, model.VolumeUploading}, v.Status) {
		return v, fault.InvalidVolume("Updating volume metadata is not allowed for volumes in %s state.", v.Status)
	}
	v, err = a.Store.EditVolumeMaps(c.ctx(), v.ID, func(m, _ model.StringMap) error {
		if err := c.ifMatch(m); err != nil {
			return err
		}
		return edit(m)
	})
	return v, notFound(err, noVolume, c.vars["id"])
}

func metadataBody(c *call) (map[string]string, error) {
	body, err := c.parse()
	if err != nil {
		return nil, err
	}
	if err := body.Require("metadata"); err != nil {
		return nil, err
	}
	in, err := body.Object("metadata")
	if err != nil {
		return nil, err
	}
	m, err := in.AsMetadata()
	return writable(m), err
}

func (a *API) mergeMetadata(c *call) error {
	m, err := metadataBody(c)
	if err != nil {
		return err
	}
	v, err := a.editMetadata(c, "volume:create_volume_metadata", func(old model.StringMap) error {
		maps.Copy(old, m)
		return nil
	})
	if err != nil {
		return err
	}
	return c.sendMetadata(v.Metadata)
}

func (a *API) replaceMetadata(c *call) error {
	m, err := metadataBody(c)
	if err != nil {
		return err
	}
	v, err := a.editMetadata(c, "volume:update_volume_metadata", func(old model.StringMap) error {
		clear(old)
		maps.Copy(old, m)
		return nil
	})
	if err != nil {
		return err
	}
	return c.sendMetadata(v.Metadata)
}

func noKey(c *call) error {
	return fault.NotFound("Volume %s has no metadata with key %s.", c.vars["id"], c.vars["key"])
}

func (a *API) showMetadataKey(c *call) error {
	v, err := a.volume(c, "volume:get_volume_metadata")
	if err != nil {
		return err
	}
	x, ok := v.Metadata[c.vars["key"]]
	if !ok {
		return noKey(c)
	}
	return c.json(http.StatusOK, view.Object{"meta": view.Object{c.vars["key"]: x}})
}

func (a *API) putMetadataKey(c *call) error {
	in, err := c.inner("meta")
	if err != nil {
		return err
	}
	switch n := len(in.Keys()); {
	case n < 1:
		return in.InvalidSelf("{} does not have enough properties")
	case n > 1:
		return in.InvalidSelf("%s has too many properties", schema.Repr(in.Self()))
	}
	m, err := onePair(in, c.vars["key"])
	if err != nil {
		return err
	}
	m = writable(m)
	if _, err := a.editMetadata(c, "volume:update_volume_metadata", func(old model.StringMap) error {
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

func (a *API) deleteMetadataKey(c *call) error {
	if _, err := a.editMetadata(c, "volume:delete_volume_metadata", func(m model.StringMap) error {
		if _, ok := m[c.vars["key"]]; !ok {
			return noKey(c)
		}
		delete(m, c.vars["key"])
		return nil
	}); err != nil {
		return err
	}
	return c.emptyHTML(http.StatusOK)
}
