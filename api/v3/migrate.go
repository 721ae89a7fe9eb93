package v3

import (
	"errors"
	"net/http"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/schema"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

const notMovable = "Volume %s status must be available or in-use, must not be migrating, have snapshots, be replicated, be part of a group " +
	"and destination host/cluster must be different than the current one"

// migrateVolume moves a volume to another node. One whose data are copied is in maintenance
// meanwhile, whether lock_volume is asked for or not: nothing else may be done with it.
func (a *API) migrateVolume(c *call, in *schema.Object) error {
	keys := []string{"host", "force_host_copy", "lock_volume"}
	if c.mv >= mvManageCluster {
		keys = append(keys, "cluster")
	} else if err := in.Require("host"); err != nil {
		return err
	}
	if err := in.Only(keys...); err != nil {
		return err
	}
	host, err := in.String("host", 0, 255)
	if err != nil {
		return err
	}
	cluster, err := in.String("cluster", 0, 255)
	if err != nil {
		return err
	}
	for _, key := range []string{"force_host_copy", "lock_volume"} {
		if _, err := in.Bool(key); err != nil {
			return err
		}
	}
	v, err := a.volume(c, "volume_extension:volume_admin_actions:migrate_volume")
	if err != nil {
		return err
	}
	if err := c.hostOrCluster(valueOr(host, ""), valueOr(cluster, ""), mvManageCluster); err != nil {
		return err
	}
	name := valueOr(host, "")
	if name == "" {
		name = valueOr(cluster, "")
	}
	noHost := fault.BadRequest("Invalid host: No available service named '%s'", name)
	node, err := a.volumeService(c, name)
	if f := new(fault.Fault); errors.Is(err, model.ErrNotFound) || errors.As(err, &f) {
		return noHost
	}
	if err != nil {
		return err
	}
	if v.Status == model.VolumeInUse && !v.Migrating() && (v.Home == nil || *v.Home != node.Host) {
		return fault.InvalidVolume("Volume %s is attached, and this backend moves detached volumes only. Detach it first.", v.ID)
	}
	who := model.Task{ProjectID: c.id.ProjectID, UserID: c.id.UserID, RequestID: c.info.ID}
	err = a.Scheduler.Migrate(c.ctx(), v.ID, node.Host, who)
	switch {
	case errors.Is(err, model.ErrInUse):
		return fault.InvalidVolume("Volume %s can't be moved yet: %s", v.ID, plain(err))
	case isState(err):
		return fault.InvalidVolume(notMovable, v.ID)
	case errors.Is(err, model.ErrInvalid):
		return fault.BadRequest("Invalid host: %s", plain(err))
	case err != nil:
		return notFound(err, noVolume, v.ID)
	}
	return c.empty(http.StatusAccepted)
}

// migrateCompletion is what Nova asks for when it has copied a volume itself (swap volume): which
// of the two ids remains. Attachments are Nova's to exchange, by their own resource.
func (a *API) migrateCompletion(c *call, in *schema.Object) error {
	if err := in.Only("new_volume", "error"); err != nil {
		return err
	}
	if err := in.Require("new_volume"); err != nil {
		return err
	}
	id, err := in.UUID("new_volume")
	if err != nil {
		return err
	}
	if id == nil {
		return in.Invalid("new_volume", "None is not of type 'string'")
	}
	const rule = "volume_extension:volume_admin_actions:migrate_volume_completion"
	v, err := a.volume(c, rule)
	if err != nil {
		return err
	}
	other, err := a.volumeByID(c, id.String(), rule)
	if err != nil {
		return err
	}
	has := func(v *model.Volume) bool { return v.MigrationStatus != nil && *v.MigrationStatus != "" }
	switch {
	case !has(&v) && !has(&other):
		return c.json(http.StatusOK, view.Object{"save_volume_id": other.ID})
	case !has(&v):
		return fault.InvalidVolume("Source volume not mid-migration.")
	case !has(&other):
		return fault.InvalidVolume("Destination volume not mid-migration.")
	}
	return fault.InvalidVolume("Destination has migration_status %s, expected target:%s.", *other.MigrationStatus, v.ID)
}
