package model

import (
	"strconv"
	"time"

	"github.com/google/uuid"
)

// QoS is one row of table qos_specs.
type QoS struct {
	ID        uuid.UUID  `db:"id"`
	Name      string     `db:"name"`
	Consumer  string     `db:"consumer"` // one of QoSConsumers
	Specs     StringMap  `db:"specs"`
	CreatedAt time.Time  `db:"created_at"`
	UpdatedAt *time.Time `db:"updated_at"`
}

// AttachOptions are what a volume's type says of its attachments.
type AttachOptions struct {
	QoS       *QoS // nil: none
	Cacheable bool // Nova's host may cache it (os-brick's cache manager)
}

// QoSConsumers are who may enforce QoS specs: the hypervisor, the storage, or both. The
// default is back-end.
func QoSConsumers() []string { return []string{"front-end", "back-end", "both"} }

// FrontEnd is what a hypervisor is told of the specs for a volume of a size: nil if they
// are not for it. A limit per GiB (read_iops_sec_per_gb) becomes one of the volume, at
// least …_per_gb_min and at most …_max (cinder/volume/manager.py, _parse_connection_options).
// A number that is none leaves the specs of that limit as they are, where Cinder fails to attach.
// Values are strings, and integers where they were computed.
func (q *QoS) FrontEnd(sizeGiB int) map[string]any {
	if q == nil || q.Consumer != "front-end" && q.Consumer != "both" {
		return nil
	}
	out := map[string]any{}
	for k, v := range q.Specs {
		out[k] = v
	}
	for _, option := range []string{
		"read_iops_sec", "read_bytes_sec", "write_iops_sec", "write_bytes_sec", "total_iops_sec", "total_bytes_sec",
	} {
		perGiB, least, most := option+"_per_gb", option+"_per_gb_min", option+"_max"
		if _, ok := q.Specs[perGiB]; !ok {
			continue
		}
		rate, ok1 := number(q.Specs, perGiB, 0)
		low, ok2 := number(q.Specs, least, 0)
		value := max(low, rate*int64(sizeGiB))
		high, ok3 := number(q.Specs, most, value)
		if !ok1 || !ok2 || !ok3 {
			continue
		}
		out[option] = min(value, high)
		delete(out, perGiB)
		delete(out, least)
		delete(out, most)
	}
	return out
}

func number(m StringMap, key string, missing int64) (int64, bool) {
	s, ok := m[key]
	if !ok {
		return missing, true
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}
