package view

import (
	"encoding/json"
	"time"

	"github.com/vmthunder/vmthunder/db/model"
)

// Image is a row of GET /vmthunder/images: {"images": […]}. Sizes are in bytes.
type Image struct {
	ID           string    `json:"id"`
	Name         string    `json:"name"`
	DiskFormat   string    `json:"disk_format"`
	SizeBytes    int64     `json:"size_bytes"`    // of the file in Glance
	VirtualBytes int64     `json:"virtual_bytes"` // 0 until known
	Status       string    `json:"status"`        // queued, importing, active, error, deleting
	Degree       *int      `json:"degree"`        // null: the default
	Phase        string    `json:"phase"`         // of the import
	Done         int64     `json:"done"`
	Total        int64     `json:"total"`
	Progress     string    `json:"progress"` // the three before in words
	Attempts     int       `json:"attempts"`
	Error        *string   `json:"error"`
	CreatedAt    time.Time `json:"created_at"`
	UpdatedAt    time.Time `json:"updated_at"`
}

// OperatorImage makes the row of an image.
func OperatorImage(i *model.Image) Image {
	out := Image{
		ID: i.ID.String(), Name: i.Name, DiskFormat: i.DiskFormat, SizeBytes: i.SizeBytes, VirtualBytes: i.VirtualBytes,
		Status: string(i.Status), Degree: i.Degree, Phase: i.Phase, Done: i.Done, Total: i.Total,
		Attempts: i.Attempts, Error: i.Error, CreatedAt: i.CreatedAt, UpdatedAt: i.UpdatedAt,
	}
	if i.Status == model.ImageQueued || i.Status == model.ImageImporting {
		out.Progress = Progress(i)
	}
	return out
}

// Member is a row of GET /vmthunder/images/{id}/tree: {"image": {…}, "members": […]},
// ordered by depth, then host. It holds no CHAP secret.
type Member struct {
	Host           string  `json:"host"`
	Role           string  `json:"role"`  // root, relay
	State          string  `json:"state"` // joining, importing, active, path-lost, draining, leaving
	Parent         *string `json:"parent"`
	Fallback       *string `json:"fallback"`
	Depth          int     `json:"depth"`
	Children       int     `json:"children"`
	Pinned         bool    `json:"pinned"`
	Reason         string  `json:"reason"`          // why this parent
	ObservedParent string  `json:"observed_parent"` // where it reads from now
	// Bytes since the node built its stack: read from the parent, by volumes here, by
	// children. The hit ratio is 1 - upstream / (read + served): the share of what was
	// asked for here that had not to be fetched for it, be it in RAM or on the cache disk.
	UpstreamBytes int64 `json:"upstream_bytes"`
	ReadBytes     int64 `json:"read_bytes"`
	ServedBytes   int64 `json:"served_bytes"`
	// Requests that went past the page layer, as the cache driver counts them.
	CacheHits   int64  `json:"cache_hits"`
	CacheMisses int64  `json:"cache_misses"`
	Error       string `json:"error"`
}

// OperatorMember makes the row of a member.
func OperatorMember(m *model.Member) Member {
	return Member{
		Host: m.Host, Role: string(m.Role), State: string(m.State), Parent: m.Parent, Fallback: m.Fallback,
		Depth: m.Depth, Children: m.Children, Pinned: m.Pinned, Reason: m.Reason, ObservedParent: m.ObservedParent,
		UpstreamBytes: m.UpstreamBytes, ReadBytes: m.ReadBytes, ServedBytes: m.ServedBytes,
		CacheHits: m.CacheHits, CacheMisses: m.CacheMisses, Error: m.Error,
	}
}

// Node is a row of GET /vmthunder/nodes: {"nodes": […]}, ordered by host.
type Node struct {
	Host             string          `json:"host"`
	Address          string          `json:"address"`
	Initiator        string          `json:"initiator"`
	Origin           bool            `json:"origin"`
	Compute          bool            `json:"compute"`
	AvailabilityZone string          `json:"availability_zone"`
	Rack             string          `json:"rack"`
	Backend          string          `json:"backend"` // by which types choose it
	Enabled          bool            `json:"enabled"`
	DisabledReason   *string         `json:"disabled_reason"`
	Frozen           bool            `json:"frozen"`
	Draining         bool            `json:"draining"` // is to be taken out of service
	Alive            bool            `json:"alive"`
	LastSeen         *time.Time      `json:"last_seen"`
	BootID           string          `json:"boot_id"` // of the kernel that reported last
	Version          string          `json:"version"`
	Generation       int64           `json:"generation"` // what it should do
	Applied          int64           `json:"applied"`    // what it has done
	PoolState        string          `json:"pool_state"`
	PoolTotal        int64           `json:"pool_total"`
	PoolFree         int64           `json:"pool_free"`
	ImageFree        int64           `json:"image_free"`
	CacheDriver      string          `json:"cache_driver"`
	CacheReason      string          `json:"cache_reason"`
	TargetHelper     string          `json:"target_helper"`
	Volumes          int             `json:"volumes"` // that are shown on it
	VolumeGiB        int64           `json:"volume_gib"`
	Problems         json.RawMessage `json:"problems"` // as the agent reported them; null: none
}

// OperatorNode makes the row of a node.
func (c Context) OperatorNode(n *model.Node, volumes int, gib int64) Node {
	out := Node{
		Host: n.Host, Address: n.Address, Initiator: n.Initiator, Origin: n.Origin, Compute: n.Compute,
		AvailabilityZone: n.AvailabilityZone, Rack: n.Rack, Backend: c.Backend.NameOf(n.Backend), Enabled: n.Enabled, DisabledReason: n.DisabledReason,
		Frozen: n.Frozen, Draining: n.Draining, Alive: n.Alive, LastSeen: n.LastSeen, BootID: n.BootID, Version: n.Version, Generation: n.Generation,
		Applied: n.Applied, PoolState: n.PoolState, PoolTotal: n.PoolTotal, PoolFree: n.PoolFree, ImageFree: n.ImageFree,
		CacheDriver: n.CacheDriver, CacheReason: n.CacheReason, TargetHelper: n.TargetHelper,
		Volumes: volumes, VolumeGiB: gib,
	}
	if json.Valid(n.Problems) {
		out.Problems = json.RawMessage(n.Problems)
	}
	return out
}
