package view

import (
	"maps"
	"strconv"
	"time"

	"github.com/vmthunder/vmthunder/db/model"
)

// Binaries as Cinder's clients know them.
const (
	BinaryVolume    = "cinder-volume"    // a node
	BinaryScheduler = "cinder-scheduler" // a replica of the control plane
	BinaryBackup    = "cinder-backup"    // a node that reaches the store of backups
)

// Service is one row of GET /os-services.
type Service struct {
	Binary         string
	Host           string // HOST@BACKEND for nodes
	Zone           string
	Enabled, Up    bool
	Frozen         bool
	DisabledReason *string
	UpdatedAt      *time.Time
}

// Service as /os-services shows it.
func (c Context) Service(s *Service) Object {
	o := Object{
		"binary": s.Binary, "host": s.Host, "zone": s.Zone, "status": either(s.Enabled, "enabled", "disabled"),
		"state": either(s.Up, "up", "down"), "updated_at": TimeOrNil(s.UpdatedAt), "disabled_reason": orNil(s.DisabledReason),
	}
	if c.Version >= 7 {
		o["cluster"] = nil
	}
	if s.Binary == BinaryVolume {
		o["replication_status"], o["active_backend_id"], o["frozen"] = "disabled", nil, s.Frozen
		if c.Version >= 49 {
			o["backend_state"] = either(s.Up, "up", "down")
		}
	}
	return o
}

// Host as /os-hosts shows it.
func (c Context) Host(s *Service) Object {
	return Object{
		"host_name": s.Host, "service": s.Binary, "zone": s.Zone,
		"service-status": either(s.Up, "available", "unavailable"),
		"service-state":  either(s.Enabled, "enabled", "disabled"),
		"last-update":    TimeOrNil(s.UpdatedAt),
	}
}

// HostShares is the answer of /os-hosts/{host}: all projects together, then each. Numbers are
// strings there.
func (c Context) HostShares(host string, shares []model.Share) Object {
	total := model.Share{ProjectID: "(total)"}
	for _, s := range shares {
		total.Volumes, total.GiB = total.Volumes+s.Volumes, total.GiB+s.GiB
		total.Snapshots, total.SnapshotGiB = total.Snapshots+s.Snapshots, total.SnapshotGiB+s.SnapshotGiB
	}
	rows := make([]Object, 0, len(shares)+1)
	for _, s := range append([]model.Share{total}, shares...) {
		rows = append(rows, Object{"resource": Object{
			"host": host, "project": s.ProjectID, "volume_count": strconv.Itoa(s.Volumes), "total_volume_gb": strconv.FormatInt(s.GiB, 10),
			"snapshot_count": strconv.Itoa(s.Snapshots), "total_snapshot_gb": strconv.FormatInt(s.SnapshotGiB, 10),
		}})
	}
	return Object{"host": rows}
}

// Pool of a node as /scheduler-stats/get_pools shows it; capacities in GiB.
func (c Context) Pool(n *model.Node, volumes int, gib int64, detail bool, now time.Time) Object {
	o := Object{"name": c.Backend.PoolName(n.Host, n.Backend)}
	if !detail {
		return o
	}
	seen := now
	if n.LastSeen != nil {
		seen = *n.LastSeen
	}
	caps := c.Backend.Capabilities(n)
	maps.Copy(caps, model.Capabilities{
		"timestamp": Time(seen), "allocated_capacity_gb": gib, "provisioned_capacity_gb": gib, "total_volumes": volumes,
		"backend_state": either(n.Alive, "up", "down"),
	})
	o["capabilities"] = caps
	return o
}

// Capabilities of a host, which is n's, from which clients build forms.
func (c Context) Capabilities(host string, n *model.Node) Object {
	return Object{
		"namespace": "OS::Storage::Capabilities::" + host, "vendor_name": "VMThunder",
		"volume_backend_name": c.Backend.NameOf(n.Backend), "pool_name": nil, "driver_version": c.Backend.Version,
		"storage_protocol": model.StorageProtocol, "display_name": nil, "description": nil, "visibility": nil,
		"replication_targets": []string{},
		"properties": Object{
			"thin_provisioning":   property("Thin Provisioning", "Sets thin provisioning."),
			"compression":         property("Compression", "Enables compression."),
			"qos":                 property("QoS", "Enables QoS."),
			"replication_enabled": property("Replication", "Enables replication."),
		},
	}
}

func property(title, description string) Object {
	return Object{"title": title, "description": description, "type": "boolean"}
}

func either(b bool, yes, no string) string {
	if b {
		return yes
	}
	return no
}
