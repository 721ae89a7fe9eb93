package v3

import (
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/microversion"
	"github.com/vmthunder/vmthunder/api/v3/schema"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

// Microversions from which a cluster may stand for a host. There are no clusters here.
const (
	mvManageCluster microversion.Version = 16
	mvListCluster   microversion.Version = 17
)

func (a *API) manageRoutes() []route {
	var out []route
	for _, r := range []struct {
		path string
		min  microversion.Version
		kind model.Kind
		make handler
	}{
		{"/os-volume-manage", 0, model.KindVolume, a.manageVolume},
		{"/manageable_volumes", 8, model.KindVolume, a.manageVolume},
		{"/os-snapshot-manage", 0, model.KindSnapshot, a.manageSnapshot},
		{"/manageable_snapshots", 8, model.KindSnapshot, a.manageSnapshot},
	} {
		out = append(out,
			route{method: "GET", path: r.path, min: r.min, h: func(c *call) error { return a.listManageable(c, r.kind, false) }},
			route{method: "GET", path: r.path + "/detail", min: r.min, h: func(c *call) error { return a.listManageable(c, r.kind, true) }},
			route{method: "POST", path: r.path, min: r.min, h: r.make},
		)
	}
	return out
}

// hostOrCluster is the one that a request must name (cinder/api/common.py, get_cluster_host).
func (c *call) hostOrCluster(host, cluster string, since microversion.Version) error {
	msg := "Host field is missing."
	if c.mv >= since {
		msg = "One and only one of cluster and host must be set."
	} else {
		cluster = ""
	}
	if (host == "") == (cluster == "") {
		return fault.InvalidInput("%s", msg)
	}
	return nil
}

// volumeService finds the node of a host or pool name: model.ErrNotFound, or a fault if it is
// disabled or does not answer.
func (a *API) volumeService(c *call, host string) (model.Node, error) {
	nodes, err := a.Store.Nodes(c.ctx())
	if err != nil {
		return model.Node{}, err
	}
	n := a.Backend.NodeOf(host, nodes)
	switch {
	case n == nil:
		return model.Node{}, model.ErrNotFound
	case !n.Enabled || !n.Alive:
		return *n, fault.New(http.StatusServiceUnavailable, "Service is unavailable at this time.")
	}
	return *n, nil
}

func (a *API) listManageable(c *call, kind model.Kind, detail bool) error {
	rule, key := "volume_extension:list_manageable", "manageable-volumes"
	if kind == model.KindSnapshot {
		rule, key = "snapshot_extension:list_manageable", "manageable-snapshots"
	}
	if err := c.allow(rule); err != nil {
		return err
	}
	q := c.r.URL.Query()
	host, cluster := q.Get("host"), q.Get("cluster")
	if err := c.hostOrCluster(host, cluster, mvListCluster); err != nil {
		return err
	}
	less, err := manageableOrder(q)
	if err != nil {
		return err
	}
	for _, k := range []string{"sort", "sort_key", "sort_dir"} {
		q.Del(k)
	}
	p, err := a.paging(q, nil)
	if err != nil {
		return err
	}
	service, _, _ := strings.Cut(host, "#") // as for Cinder, which pool does not matter
	node, err := a.volumeService(c, service)
	if errors.Is(err, model.ErrNotFound) {
		return fault.NotFound("Service None could not be found on host %s.", service)
	}
	if err != nil {
		return err
	}
	all, err := a.Scheduler.Manageable(c.ctx(), node.Host, kind)
	if err != nil {
		return err
	}
	slices.SortStableFunc(all, less)
	if all, err = manageablePage(all, p, a.MaxLimit); err != nil {
		return err
	}
	rows := make([]view.Object, 0, len(all))
	for i := range all {
		rows = append(rows, c.view().Manageable(&all[i], detail))
	}
	return c.json(http.StatusOK, view.Object{key: rows})
}

// manageableOrder reads sort, or the older sort_key and sort_dir; without, it is descending by
// reference.
func manageableOrder(q url.Values) (func(x, y model.Manageable) int, error) {
	if q.Has("sort") && (q.Has("sort_key") || q.Has("sort_dir")) {
		return nil, fault.BadRequest("The 'sort_key' and 'sort_dir' parameters are deprecated and cannot be used with the 'sort' parameter.")
	}
	type key struct {
		size, up bool
	}
	var keys []key
	var badKeys, badDirs []string
	add := func(name, dir string) {
		if name != "reference" && name != "size" {
			badKeys = append(badKeys, name)
		}
		if dir != "asc" && dir != "desc" {
			badDirs = append(badDirs, dir)
		}
		keys = append(keys, key{size: name == "size", up: dir == "asc"})
	}
	or := func(s, other string) string {
		if s == "" {
			return other
		}
		return s
	}
	if q.Has("sort") {
		for part := range strings.SplitSeq(q.Get("sort"), ",") {
			name, dir, _ := strings.Cut(part, ":")
			add(strings.TrimSpace(name), or(strings.TrimSpace(dir), "desc"))
		}
	} else {
		add(or(q.Get("sort_key"), "reference"), or(q.Get("sort_dir"), "desc"))
	}
	switch {
	case len(badKeys) > 0:
		return nil, fault.BadRequest("Invalid sort keys passed: %s", strings.Join(badKeys, ", "))
	case len(badDirs) > 0:
		return nil, fault.BadRequest("Invalid sort dirs passed: %s", strings.Join(badDirs, ", "))
	}
	return func(x, y model.Manageable) int {
		for _, k := range keys {
			d := strings.Compare(x.Reference, y.Reference)
			if k.size {
				d = x.SizeGiB - y.SizeGiB
			}
			if !k.up {
				d = -d
			}
			if d != 0 {
				return d
			}
		}
		return 0
	}, nil
}

// dictMarker is a reference as it is shown, in JSON or in Python's words.
var dictMarker = regexp.MustCompile(`^\s*\{\s*u?['"]source-name['"]\s*:\s*u?['"]([^'"]*)['"]\s*\}\s*$`)

func manageablePage(all []model.Manageable, p page, most int) ([]model.Manageable, error) {
	if p.marker != "" {
		m := dictMarker.FindStringSubmatch(p.marker)
		if m == nil {
			return nil, fault.InvalidInput("marker %s can not be analysed, please use dict like format", p.marker)
		}
		i := slices.IndexFunc(all, func(x model.Manageable) bool { return x.Reference == m[1] })
		if i < 0 {
			return nil, fault.InvalidInput("marker not found: {'source-name': '%s'}", m[1])
		}
		all = all[i+1:]
	}
	if p.limit < 0 {
		p.limit = most
	}
	all = all[min(p.offset, len(all)):]
	return all[:min(p.limit, len(all))], nil
}

// manageVolume makes a volume of a thin device that is in a node's pool. As with Cinder, what the
// reference names is looked at only then: one that is bad makes a volume in error.
func (a *API) manageVolume(c *call) error {
	in, err := c.manageBody()
	if err != nil {
		return err
	}
	if err := c.allow("volume_extension:volume_manage"); err != nil {
		return err
	}
	// What nothing was ever written to is nowhere, so no host can be named for it.
	if in.host != "" || in.cluster != "" || in.ref.ID == nil {
		if err := c.hostOrCluster(in.host, in.cluster, mvManageCluster); err != nil {
			return err
		}
	}
	kind, err := a.manageType(c, in)
	if err != nil {
		return err
	}
	if in.cluster != "" && in.host == "" {
		return fault.BadRequest("Cluster '%s' not found", in.cluster)
	}
	var node model.Node
	if in.host != "" {
		node, err = a.volumeService(c, in.host)
		if errors.Is(err, model.ErrNotFound) {
			return fault.BadRequest("Host '%s' not found", in.host)
		}
		if err != nil {
			return err
		}
	}
	w := wanted{name: in.name, description: in.description, metadata: writable(in.metadata), kind: kind, zone: a.zoneOf(&node)}
	if in.zone != "" {
		w.zone = in.zone
	}
	v := a.row(c, w, in.name)
	v.Bootable = in.bootable
	made, err := a.Scheduler.Manage(c.ctx(), v, kind.ExtraSpecs, node.Host, in.ref)
	if in.host == "" && errors.Is(err, model.ErrInvalid) {
		return c.hostOrCluster("", "", mvManageCluster)
	}
	if err != nil {
		return err
	}
	// As Cinder answers, who has not looked yet.
	made.Status, made.SizeGiB, made.UpdatedAt, made.Bootable = model.VolumeCreating, 0, nil, in.bootable
	if made.VolumeType == nil {
		made.VolumeType = &kind.Name
	}
	return c.json(http.StatusAccepted, view.Object{"volume": c.view().Volume(&made)})
}

// manageInput is the body of a request to manage a volume.
type manageInput struct {
	host, cluster, kind, zone string
	name, description         *string
	metadata                  map[string]string
	bootable                  bool
	ref                       model.ManageRef
}

func (c *call) manageBody() (m manageInput, err error) {
	body, err := c.parse()
	if err != nil {
		return m, err
	}
	in, err := body.Object("volume")
	if err != nil {
		return m, err
	}
	if err := body.Only("volume"); err != nil {
		return m, err
	}
	keys := []string{"description", "availability_zone", "bootable", "volume_type", "name", "host", "ref", "metadata"}
	if c.mv >= mvManageCluster {
		keys = append(keys, "cluster")
	}
	if err := in.Only(keys...); err != nil {
		return m, err
	}
	if m.ref, err = manageRef(in); err != nil {
		return m, err
	}
	for _, f := range []struct {
		key string
		low int
		to  *string
	}{{"host", 1, &m.host}, {"cluster", 0, &m.cluster}, {"volume_type", 0, &m.kind}, {"availability_zone", 0, &m.zone}} {
		s, err := in.String(f.key, f.low, 255)
		if err != nil {
			return m, err
		}
		if s != nil {
			*f.to = *s
		}
	}
	if m.name, err = nameOf(in, "name", "name"); err != nil {
		return m, err
	}
	if m.description, err = nameOf(in, "description", "description"); err != nil {
		return m, err
	}
	if m.metadata, err = in.Metadata("metadata"); err != nil {
		return m, err
	}
	b, err := in.Bool("bootable")
	if b != nil {
		m.bootable = *b
	}
	return m, err
}

// manageRef reads what is to be managed: {"source-name": NAME}, {"source-id": NUMBER or ID}, or the
// name alone; "size" in GiB where the device is larger than what is on it tells.
func manageRef(in *schema.Object) (model.ManageRef, error) {
	if err := in.Require("ref"); err != nil {
		return model.ManageRef{}, err
	}
	raw := strings.TrimSpace(string(in.Raw("ref")))
	switch {
	case strings.HasPrefix(raw, `"`):
		return model.ParseReference(schema.Str(in.Raw("ref"))), nil
	case !strings.HasPrefix(raw, "{"):
		return model.ManageRef{}, in.Invalid("ref", "%s is not of type 'object', 'string'", schema.Repr(in.Raw("ref")))
	}
	o, err := in.Object("ref")
	if err != nil {
		return model.ManageRef{}, err
	}
	ref := model.ManageRef{Text: schema.Str(o.Self())}
	switch {
	case o.Has("source-name"):
		ref = model.ParseReference(schema.Str(o.Raw("source-name")))
	case o.Has("source-id"):
		ref = model.ParseReference(schema.Str(o.Raw("source-id")))
	}
	size, err := o.Int("size", 1, schema.MaxInt)
	if size != nil {
		ref.SizeGiB = int(*size)
	}
	return ref, err
}

// manageType is the type of a volume that is to be managed. One that is managed already is refused
// first, as by Cinder.
func (a *API) manageType(c *call, in manageInput) (model.VolumeType, error) {
	var t model.VolumeType
	var err error
	if in.kind != "" {
		if t, err = a.typeByRef(c, in.kind); isMissing(err) {
			return t, fault.BadRequest("Invalid volume type: Cannot find requested '%s' volume type", in.kind)
		}
		if err != nil {
			return t, err
		}
	}
	if in.ref.ID != nil {
		switch _, err := a.Store.Volume(c.ctx(), *in.ref.ID, ""); {
		case err == nil:
			return t, fault.InvalidVolume("Unable to manage existing volume. The volume is already managed")
		case !errors.Is(err, model.ErrNotFound):
			return t, err
		}
	}
	if in.kind == "" {
		if t, err = a.defaultType(c); err != nil {
			return t, err
		}
	}
	if t.Encrypted {
		return t, fault.BadRequest("Invalid volume type: Managing to an encrypted volume type is not supported.")
	}
	return t, nil
}

// unmanageVolume forgets a volume and leaves its data where they are.
func (a *API) unmanageVolume(c *call, _ *schema.Object) error {
	v, err := a.volume(c, "volume_extension:volume_unmanage")
	if err != nil {
		return err
	}
	if err := c.allowOwner("volume:delete", v.ProjectID, v.UserID); err != nil {
		return err
	}
	if v.EncryptionKeyID != nil {
		return fault.InvalidInput("Unmanaging encrypted volumes is not supported.")
	}
	err = a.Scheduler.Unmanage(c.ctx(), v.ID)
	if isState(err) {
		return fault.InvalidVolume(notDeletable)
	}
	if err != nil {
		return notFound(err, noVolume, v.ID)
	}
	return c.empty(http.StatusAccepted)
}
