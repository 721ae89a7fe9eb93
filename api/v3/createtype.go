package v3

import (
	"slices"
	"strconv"
	"strings"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/db/model"
)

// What a volume type means for the volumes that are made with it.

// wantedType of a new volume: by id, by name, or the default.
func (a *API) wantedType(c *call, ref string) (model.VolumeType, error) {
	if ref == "" {
		return a.defaultType(c)
	}
	return a.typeByRef(c, ref)
}

// obeyType refuses a volume that its type, or the caller's rights to it, do not allow.
func (a *API) obeyType(c *call, t *model.VolumeType, gib int) error {
	if err := allowedSize(t, gib); err != nil {
		return err
	}
	if err := a.refuseEncrypted(c, t); err != nil {
		return err
	}
	if t.Is("multiattach") {
		return c.allow("volume:multiattach")
	}
	return nil
}

// allowedSize: a type may have bounds. One that is no number is none, where Cinder fails.
func allowedSize(t *model.VolumeType, gib int) error {
	least, most := t.ExtraSpecs["provisioning:min_vol_size"], t.ExtraSpecs["provisioning:max_vol_size"]
	if n, err := strconv.Atoi(least); err == nil && gib < n {
		return fault.InvalidInput("Specified volume size of '%d' is less than the minimum required size of '%s' for volume type '%s'.", gib, least, t.Name)
	}
	if n, err := strconv.Atoi(most); err == nil && gib > n {
		return fault.InvalidInput("Specified volume size of '%d' is greater than the maximum allowable size of '%s' for volume type '%s'.", gib, most, t.Name)
	}
	return nil
}

// typeZone is the zone of a new volume: the one asked for, if its type is to be had there.
// Without a wish it is the default zone, or one of the type's, rather one with a node that is up.
func (a *API) typeZone(c *call, zone string, t *model.VolumeType) (string, error) {
	list, ok := t.ExtraSpecs["RESKEY:availability_zones"]
	if !ok {
		return a.wantedZone(c, zone)
	}
	nodes, err := a.Store.Nodes(c.ctx())
	if err != nil {
		return "", err
	}
	up := map[string]bool{a.DefaultZone: false}
	for i := range nodes {
		n := &nodes[i]
		up[a.zoneOf(n)] = up[a.zoneOf(n)] || n.Alive && n.Enabled
	}
	var of, here []string
	for z := range strings.SplitSeq(list, ",") {
		if z == "" {
			continue
		}
		of = append(of, strings.TrimSpace(z))
		if _, known := up[strings.TrimSpace(z)]; known {
			here = append(here, strings.TrimSpace(z))
		}
	}
	switch {
	case len(here) == 0:
		return "", fault.BadRequest("Volume type is only supported in these availability zones: ['%s']", strings.Join(of, "', '"))
	case zone != "" && slices.Contains(here, zone):
		return zone, nil
	case zone != "":
		return "", fault.BadRequest("Availability zone '%s' is invalid.", zone)
	case slices.Contains(here, a.DefaultZone):
		return a.DefaultZone, nil
	}
	if i := slices.IndexFunc(here, func(z string) bool { return up[z] }); i >= 0 {
		return here[i], nil
	}
	return here[0], nil
}
