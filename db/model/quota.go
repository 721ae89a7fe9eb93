package model

import "fmt"

// QuotaError says which of a project's limits some new volumes would exceed.
type QuotaError struct {
	Resource  string // volumes, gigabytes or per_volume_gigabytes
	Limit     int64
	Used      int64 // of the resource, before
	Requested int64 // of the resource, by all of them; by one, if the limit is per volume
	// Fit is how many of the volumes, from the first on, the limits have room for.
	Fit int
}

func (e *QuotaError) Error() string {
	return fmt.Sprintf("%d more are asked for, quota %s is %d and %d are used", e.Requested, e.Resource, e.Limit, e.Used)
}

// CheckQuota tells whether a project whose limits and usage (by resource) are these may
// have the volumes too. A limit that is negative or missing is none; volumes that do not
// count against quotas fit always. The error is a *[QuotaError] about the first limit in
// the order per_volume_gigabytes, gigabytes, volumes, as Cinder has it
// (cinder/volume/flows/api/create_volume.py, QuotaReserveTask).
func CheckQuota(limits, used map[string]int64, vols []Volume) error {
	fit := len(vols)
	var gib, count int64
	over := map[string]int64{} // by resource: the largest or the last sum
	for i := range vols {
		if !vols[i].ConsumesQuota {
			continue
		}
		size := int64(vols[i].SizeGiB)
		gib, count = gib+size, count+1
		for _, x := range []struct {
			resource string
			value    int64
		}{{"per_volume_gigabytes", size}, {"gigabytes", used["gigabytes"] + gib}, {"volumes", used["volumes"] + count}} {
			if l, ok := limits[x.resource]; ok && l >= 0 && x.value > l {
				fit = min(fit, i)
				over[x.resource] = max(over[x.resource], x.value)
			}
		}
	}
	for _, r := range []string{"per_volume_gigabytes", "gigabytes", "volumes"} {
		if _, ok := over[r]; !ok {
			continue
		}
		e := &QuotaError{Resource: r, Limit: limits[r], Used: used[r], Fit: fit}
		switch r {
		case "gigabytes":
			e.Requested = gib
		case "volumes":
			e.Requested = count
		default:
			e.Requested = over[r]
		}
		return e
	}
	return nil
}
