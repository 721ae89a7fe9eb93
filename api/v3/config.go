package v3

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/sirupsen/logrus"

	"github.com/vmthunder/vmthunder/api/keystone"
	"github.com/vmthunder/vmthunder/api/policy"
	"github.com/vmthunder/vmthunder/db/model"
)

// Config of the API.
type Config struct {
	Store     Store
	Scheduler Scheduler
	Glance    Glance // nil: volumes can't be made from images
	// Projects is asked whether a project exists before it gets something; nil: it does.
	Projects Projects
	Nova     Nova // nil: without a service token no attachment of a server is deleted
	// Policy says who may do what; nil: Cinder's defaults.
	Policy *policy.Enforcer
	Log    *logrus.Entry

	DefaultType      string // default_volume_type; default "__DEFAULT__"
	DefaultGroupType string // default_group_type; "": none
	ForceUpload      bool   // enable_force_upload: volumes in use may be uploaded
	DefaultZone      string // default_availability_zone; default "nova"
	MaxLimit         int    // osapi_max_limit, rows of a page; default 1000
	// MaxBatch is the largest count of POST /volumes/batch; default 1000.
	MaxBatch int
	// ServiceDownTime after which a control plane replica counts as down; default 60 seconds.
	ServiceDownTime time.Duration
	Backend         model.Backend // as hosts, pools and capabilities show it
	// Filters that lists may be asked for; default [DefaultFilters].
	Filters []ResourceFilter
	Now     func() time.Time
}

// Nova is asked whether a server still uses an attachment (CVE-2023-2088).
type Nova interface {
	// Attachment that the server uses the volume through, with the caller's token;
	// model.ErrNotFound if the server does not use it, model.ErrUnavailable if nobody knows.
	Attachment(ctx context.Context, id keystone.Identity, server, volume uuid.UUID) (attachment string, err error)
}

func (c *Config) defaults() error {
	if c.Store == nil || c.Scheduler == nil {
		return errors.New("api/v3: a store and a scheduler are needed")
	}
	if c.Log == nil {
		c.Log = logrus.NewEntry(logrus.StandardLogger())
	}
	if c.DefaultType == "" {
		c.DefaultType = "__DEFAULT__"
	}
	if c.DefaultZone == "" {
		c.DefaultZone = "nova"
	}
	if c.MaxLimit <= 0 {
		c.MaxLimit = 1000
	}
	if c.MaxBatch <= 0 {
		c.MaxBatch = 1000
	}
	if c.ServiceDownTime <= 0 {
		c.ServiceDownTime = time.Minute
	}
	if c.Backend.Version == "" {
		c.Backend.Version = "0"
	}
	if c.Filters == nil {
		c.Filters = DefaultFilters()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return nil
}

// API is the handlers with what they need. Safe for concurrent use.
type API struct{ Config }

// New checks the configuration.
func New(cfg Config) (*API, error) {
	if err := cfg.defaults(); err != nil {
		return nil, err
	}
	return &API{Config: cfg}, nil
}

// LegacyAttacher is what os-attach needs of a [Store], beyond the attachments of 3.27.
// A store without it answers os-attach with 400.
type LegacyAttacher interface {
	// RecordAttach makes a.VolumeID in-use with one attachment that is attached at once,
	// guarded by: volume available or attaching, or in-use and multiattach; else
	// model.ErrConflict. An attachment of the volume that has no instance and is not
	// attached yet (os-initialize_connection made it) is filled in; else a row is made.
	// admin_metadata attached_mode becomes the mode.
	RecordAttach(ctx context.Context, a model.Attachment) (model.Attachment, error)
}
