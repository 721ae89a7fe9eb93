package model

import "time"

// Node is one row of table nodes: a host with an agent.
type Node struct {
	Host             string     `db:"host"`
	Address          string     `db:"address"`   // IP:PORT of its iSCSI portal
	Initiator        string     `db:"initiator"` // its own IQN
	Origin           bool       `db:"origin"`    // may hold images
	Compute          bool       `db:"compute"`   // may hold volumes
	AvailabilityZone string     `db:"availability_zone"`
	Rack             string     `db:"rack"`
	Backend          string     `db:"backend"` // that its pool is of; "": the control plane's name, see [Backend.NameOf]
	Enabled          bool       `db:"enabled"` // takes new volumes and images
	DisabledReason   *string    `db:"disabled_reason"`
	Frozen           bool       `db:"frozen"`
	Draining         bool       `db:"draining"` // is to be taken out of service: see migrations/00015_drain.sql
	Alive            bool       `db:"alive"`    // as the failure detector has decided
	LastSeen         *time.Time `db:"last_seen"`
	BootID           string     `db:"boot_id"`
	Version          string     `db:"version"`
	// Generation counts changes of what the node should do; Applied is the last
	// one it has reported as done.
	Generation   int64     `db:"generation"`
	Applied      int64     `db:"applied"`
	PoolUUID     string    `db:"pool_uuid"`
	PoolTotal    int64     `db:"pool_total"` // bytes
	PoolFree     int64     `db:"pool_free"`  // bytes
	PoolState    string    `db:"pool_state"` // rw, ro, out_of_data_space, fail, missing, foreign
	ImageFree    int64     `db:"image_free"` // bytes
	CacheDriver  string    `db:"cache_driver"`
	CacheReason  string    `db:"cache_reason"`
	TargetHelper string    `db:"target_helper"`
	Backups      bool      `db:"backups"` // it reaches the store of backups
	Problems     JSON      `db:"problems"`
	NextThin     int64     `db:"next_thin"` // next free thin number
	CreatedAt    time.Time `db:"created_at"`
	UpdatedAt    time.Time `db:"updated_at"`
}
