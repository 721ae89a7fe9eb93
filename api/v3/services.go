package v3

import (
	"net/http"
	"slices"
	"strings"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/schema"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

func (a *API) serviceRoutes() []route {
	return []route{
		{method: "GET", path: "/os-services", h: a.listServices},
		{method: "PUT", path: "/os-services/{action}", h: a.updateService},
		{method: "GET", path: "/os-hosts", h: a.listHosts},
		{method: "GET", path: "/os-hosts/{host}", h: a.showHost},
		{method: "PUT", path: "/os-hosts/{host}", h: a.updateHost},
		{method: "POST", path: "/workers/cleanup", min: 24, h: a.cleanupWorkers},
	}
}

// services are the control plane's replicas as cinder-scheduler and the compute nodes
// as cinder-volume, ordered as Cinder does: by binary, then host.
func (a *API) services(c *call) ([]view.Service, error) {
	replicas, err := a.Store.Services(c.ctx())
	if err != nil {
		return nil, err
	}
	nodes, err := a.Store.Nodes(c.ctx())
	if err != nil {
		return nil, err
	}
	out := make([]view.Service, 0, len(replicas)+len(nodes))
	now := a.Now()
	for _, s := range replicas {
		seen := s.LastSeen
		out = append(out, view.Service{
			Binary: view.BinaryScheduler, Host: s.Host, Zone: a.DefaultZone, Enabled: !s.Disabled,
			Up: now.Sub(seen) <= a.ServiceDownTime, DisabledReason: s.DisabledReason, UpdatedAt: &seen,
		})
	}
	for _, n := range nodes {
		reason := n.DisabledReason
		if n.Frozen && reason == nil {
			reason = new("frozen")
		}
		out = append(out, view.Service{
			Binary: view.BinaryVolume, Host: a.Backend.HostName(n.Host, n.Backend), Zone: a.zoneOf(&n), Enabled: n.Enabled && !n.Frozen,
			Up: n.Alive, Frozen: n.Frozen, DisabledReason: reason, UpdatedAt: n.LastSeen,
		})
		if n.Backups {
			out = append(out, view.Service{
				Binary: view.BinaryBackup, Host: n.Host, Zone: a.zoneOf(&n), Enabled: true, Up: n.Alive, UpdatedAt: n.LastSeen,
			})
		}
	}
	slices.SortStableFunc(out, func(x, y view.Service) int {
		if d := strings.Compare(x.Binary, y.Binary); d != 0 {
			return d
		}
		return strings.Compare(x.Host, y.Host)
	})
	return out, nil
}

func (a *API) zoneOf(n *model.Node) string {
	if n.AvailabilityZone == "" {
		return a.DefaultZone
	}
	return n.AvailabilityZone
}

func (a *API) listServices(c *call) error {
	if err := c.allow("volume_extension:services:index"); err != nil {
		return err
	}
	all, err := a.services(c)
	if err != nil {
		return err
	}
	q := c.r.URL.Query()
	host, binary := q.Get("host"), q.Get("binary")
	rows := []view.Object{}
	for i := range all {
		s := &all[i]
		if binary != "" && s.Binary != binary {
			continue
		}
		if host != "" && s.Host != host && !strings.HasPrefix(s.Host, host+"@") {
			continue
		}
		rows = append(rows, c.view().Service(s))
	}
	return c.json(http.StatusOK, view.Object{"services": rows})
}

const noService = "Service %s could not be found on host %s."

// updateService: the actions of /os-services. A node stays where it is; disabled, it takes
// no new volumes and images.
func (a *API) updateService(c *call) error {
	action := c.vars["action"]
	rules := map[string]string{
		"enable": "volume_extension:services:update", "disable": "volume_extension:services:update",
		"disable-log-reason": "volume_extension:services:update",
		"get-log":            "volume_extension:services:update", "set-log": "volume_extension:services:update",
		"freeze": "volume:freeze_host", "thaw": "volume:thaw_host",
		"failover_host": "volume:failover_host", "failover": "volume:failover_host",
	}
	rule, known := rules[action]
	if known {
		if err := c.allow(rule); err != nil {
			return err
		}
	}
	if !known || strings.HasSuffix(action, "-log") && c.mv < 32 || action == "failover" && c.mv < 26 {
		return fault.InvalidInput("Unknown action")
	}
	in, err := c.parse()
	if err != nil {
		return err
	}
	switch action {
	case "enable", "disable", "disable-log-reason":
		return a.enable(c, in, action)
	}
	if err := in.Only(serviceKeys(action)...); err != nil {
		return err
	}
	switch action {
	case "get-log":
		if _, err := in.Enum("binary", "cinder-scheduler", view.BinaryVolume, "cinder-backup", "cinder-api", "", "*"); err != nil {
			return err
		}
		return c.json(http.StatusOK, view.Object{"log_levels": []any{}})
	case "set-log":
		return unsupported("Changing the log level")
	case "failover", "failover_host":
		return unsupported("Replication")
	}
	return a.freeze(c, in, action == "freeze")
}

// serviceKeys are the keys of the body of an action.
func serviceKeys(action string) []string {
	switch action {
	case "get-log":
		return []string{"binary", "server", "prefix"}
	case "set-log":
		return []string{"binary", "server", "prefix", "level"}
	case "freeze", "thaw":
		return []string{"host", "cluster"}
	case "failover", "failover_host":
		return []string{"host", "cluster", "backend_id"}
	case "disable-log-reason":
		return []string{"host", "binary", "service", "disabled_reason"}
	}
	return []string{"host", "binary", "service"}
}

// node finds the node that a host name in a body means.
func (a *API) node(c *call, in *schema.Object, missing string, args ...any) (host, node string, err error) {
	if !in.Has("host") {
		return "", "", fault.InvalidInput("Host field is missing.")
	}
	if host, err = in.Text("host", 1, 255); err != nil {
		return "", "", err
	}
	nodes, err := a.Store.Nodes(c.ctx())
	if err != nil {
		return "", "", err
	}
	if n := a.Backend.NodeOf(host, nodes); n != nil {
		return host, n.Host, nil
	}
	return "", "", fault.NotFound(missing, append(args, host)...)
}

func (a *API) freeze(c *call, in *schema.Object, frozen bool) error {
	if c.mv >= 26 {
		cluster, err := in.String("cluster", 0, 255)
		if err != nil {
			return err
		}
		if in.Has("host") == (cluster != nil) {
			return fault.InvalidInput("One and only one of cluster and host must be set.")
		}
		if cluster != nil {
			return fault.BadRequest("No service found with cluster=%s", *cluster)
		}
	}
	_, node, err := a.node(c, in, "")
	if isMissing(err) {
		return fault.BadRequest("No service found with host=%s", schema.Str(in.Raw("host")))
	}
	if err != nil {
		return err
	}
	nodes, err := a.Store.Nodes(c.ctx())
	if err != nil {
		return err
	}
	if slices.ContainsFunc(nodes, func(n model.Node) bool { return n.Host == node && n.Frozen == frozen }) {
		return fault.InvalidInput("No service could be changed: frozen in ['%s'] must be %s to failover.",
			schema.Str(in.Raw("host")), map[bool]string{true: "False", false: "True"}[frozen])
	}
	if err := a.Store.SetNodeFrozen(c.ctx(), node, frozen); err != nil {
		return err
	}
	return c.empty(http.StatusOK)
}

func (a *API) enable(c *call, in *schema.Object, action string) error {
	binary, err := in.String("binary", 0, 255)
	if err != nil {
		return err
	}
	service, err := in.String("service", 0, 255)
	if err != nil {
		return err
	}
	name := valueOr(binary, valueOr(service, ""))
	if name == "" {
		return fault.BadRequest("%s is not valid under any of the given schemas", schema.Repr(in.Self()))
	}
	if err := in.Only(serviceKeys(action)...); err != nil {
		return err
	}
	if in.Given("disabled_reason") && !in.Has("disabled_reason") {
		return in.Invalid("disabled_reason", "None is not of type 'string'")
	}
	reason, err := in.String("disabled_reason", 1, 255)
	if err != nil {
		return err
	}
	if name != view.BinaryVolume {
		return a.enableOther(c, in, action, name)
	}
	host, node, err := a.node(c, in, noService, name)
	if err != nil {
		return err
	}
	on := action == "enable"
	if err := a.Store.SetNodeEnabled(c.ctx(), node, on, reason); err != nil {
		return err
	}
	body := serviceChanged(in, host, on)
	if action == "disable-log-reason" {
		body["disabled_reason"] = reason
	}
	return c.json(http.StatusOK, body)
}

// enableOther is for services that can't be disabled: all replicas of the control plane do the
// same work, and a node that reaches the store of backups makes them.
func (a *API) enableOther(c *call, in *schema.Object, action, binary string) error {
	if !in.Has("host") {
		return fault.InvalidInput("Host field is missing.")
	}
	host, err := in.Text("host", 1, 255)
	if err != nil {
		return err
	}
	all, err := a.services(c)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(all, func(s view.Service) bool { return s.Binary == binary && s.Host == host }) {
		return fault.NotFound(noService, binary, host)
	}
	if action != "enable" {
		return unsupported("Disabling " + binary)
	}
	return c.json(http.StatusOK, serviceChanged(in, host, true)) // as it is
}

// serviceChanged is the answer to a change: how the service was named, and how it is now.
func serviceChanged(in *schema.Object, host string, on bool) view.Object {
	body := view.Object{"host": host, "disabled": !on, "status": map[bool]string{true: "enabled", false: "disabled"}[on]}
	for _, key := range []string{"binary", "service"} {
		if body[key] = ""; in.Has(key) {
			body[key] = schema.Str(in.Raw(key))
		}
	}
	return body
}

func valueOr(s *string, other string) string {
	if s == nil {
		return other
	}
	return *s
}

func (a *API) listHosts(c *call) error {
	if err := c.allow("volume_extension:hosts"); err != nil {
		return err
	}
	all, err := a.services(c)
	if err != nil {
		return err
	}
	zone := c.r.URL.Query().Get("zone")
	rows := []view.Object{}
	for i := range all {
		if zone == "" || all[i].Zone == zone {
			rows = append(rows, c.view().Host(&all[i]))
		}
	}
	return c.json(http.StatusOK, view.Object{"hosts": rows})
}

func (a *API) showHost(c *call) error {
	if err := c.allow("volume_extension:hosts"); err != nil {
		return err
	}
	all, err := a.services(c)
	if err != nil {
		return err
	}
	host := c.vars["host"]
	if !slices.ContainsFunc(all, func(s view.Service) bool { return s.Host == host }) {
		return fault.NotFound(noService, view.BinaryVolume, host)
	}
	node, _, _ := strings.Cut(host, "@")
	shares, err := a.Store.SharesOf(c.ctx(), node)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, c.view().HostShares(host, shares))
}

func (a *API) updateHost(c *call) error {
	if err := c.allow("volume_extension:hosts"); err != nil {
		return err
	}
	all, err := a.services(c)
	if err != nil {
		return err
	}
	if host := c.vars["host"]; !slices.ContainsFunc(all, func(s view.Service) bool { return s.Host == host }) {
		return fault.NotFound("Host %s could not be found.", host)
	}
	return unsupported("Changing a host")
}
