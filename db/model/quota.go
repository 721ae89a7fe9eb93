package model

import (
	"fmt"
	"maps"
	"slices"
)

// Resources that quotas limit, by their names in the API. The first three are limited for
// each volume type, too: see [TypeQuota].
const (
	QuotaVolumes      = "volumes"
	QuotaGigabytes    = "gigabytes"
	QuotaSnapshots    = "snapshots"
	QuotaPerVolume    = "per_volume_gigabytes" // of one volume, not of all together
	QuotaBackups      = "backups"
	QuotaBackupsSizes = "backup_gigabytes"
	QuotaGroups       = "groups"
)

// CinderQuotas returns Cinder's own limits (cinder/quota.py, [DEFAULT] quota_*). -1 is none.
func CinderQuotas() map[string]int64 {
	return map[string]int64{
		QuotaVolumes: 10, QuotaSnapshots: 10, QuotaGigabytes: 1000, QuotaPerVolume: -1,
		QuotaBackups: 10, QuotaBackupsSizes: 1000, QuotaGroups: 10,
	}
}

// TypeQuotas are the resources that are limited by volume type, too.
func TypeQuotas() []string { return []string{QuotaVolumes, QuotaGigabytes, QuotaSnapshots} }

// TypeQuota names a resource of one volume type.
func TypeQuota(resource, typeName string) string { return resource + "_" + typeName }

// Claim is what one new thing counts against its project's quotas: how much of each
// resource, those of its volume type included.
type Claim map[string]int64

// VolumeClaim is a volume's.
func VolumeClaim(gib int) Claim {
	return Claim{QuotaVolumes: 1, QuotaGigabytes: int64(gib), QuotaPerVolume: int64(gib)}
}

// ExtendClaim is that of a volume that grows by some GiB to a size.
func ExtendClaim(by, to int) Claim {
	return Claim{QuotaGigabytes: int64(by), QuotaPerVolume: int64(to)}
}

// SnapshotClaim is a snapshot's: it counts as much as its volume.
func SnapshotClaim(gib int) Claim { return Claim{QuotaSnapshots: 1, QuotaGigabytes: int64(gib)} }

// BackupClaim is a backup's.
func BackupClaim(gib int) Claim { return Claim{QuotaBackups: 1, QuotaBackupsSizes: int64(gib)} }

// GroupClaim is a group's.
func GroupClaim() Claim { return Claim{QuotaGroups: 1} }

// OfType adds what the claim counts against the quotas of a volume type; "" adds nothing.
func (c Claim) OfType(typeName string) Claim {
	out := maps.Clone(c)
	if typeName == "" {
		return out
	}
	for _, r := range TypeQuotas() {
		if n, ok := c[r]; ok {
			out[TypeQuota(r, typeName)] = n
		}
	}
	return out
}

// QuotaError says which of a project's limits some new things would exceed.
type QuotaError struct {
	Resource  string
	Limit     int64
	Used      int64 // of the resource, before
	Requested int64 // of the resource, by all of them; by one, if the limit is per volume
	// Fit is how many of them, from the first on, the limits have room for.
	Fit int
}

func (e *QuotaError) Error() string {
	return fmt.Sprintf("%d more are asked for, quota %s is %d and %d are used", e.Requested, e.Resource, e.Limit, e.Used)
}

// CheckQuota tells whether a project whose limits and usage (by resource) are these may
// have the claims too. A limit that is negative or missing is none. The error is a
// *[QuotaError] about the first limit in Cinder's order: per_volume_gigabytes, then by name
// (cinder/volume/flows/api/create_volume.py, QuotaReserveTask; cinder/quota_utils.py).
func CheckQuota(limits, used map[string]int64, claims []Claim) error {
	fit := len(claims)
	sum := map[string]int64{}
	over := map[string]int64{} // what is said to be requested of a resource, of which it is too much
	for i, c := range claims {
		for r, n := range c {
			sum[r] += n
			total := used[r] + sum[r]
			if r == QuotaPerVolume {
				total = n
			}
			if l, ok := limits[r]; ok && l >= 0 && n > 0 && total > l {
				fit = min(fit, i)
				over[r] = max(over[r], n)
			}
		}
	}
	if len(over) == 0 {
		return nil
	}
	r := QuotaPerVolume
	if _, ok := over[r]; !ok {
		r = slices.Min(slices.Collect(maps.Keys(over)))
		over[r] = sum[r]
	}
	return &QuotaError{Resource: r, Limit: limits[r], Used: used[r], Requested: over[r], Fit: fit}
}

// BelowUsage is the error of a limit that a project exceeds already.
type BelowUsage struct {
	Resource    string
	Limit, Used int64
}

// Error is in Cinder's words (cinder/api/contrib/quotas.py).
func (e *BelowUsage) Error() string {
	return fmt.Sprintf("Quota %s limit must be equal or greater than existing resources. Current usage is %d and the requested limit is %d.",
		e.Resource, e.Used, e.Limit)
}
