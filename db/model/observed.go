package model

// Observed is what an agent sees on its node: its report and heartbeat.
type Observed struct {
	Schema     int    `json:"schema"`
	Host       string `json:"host"`
	Generation int64  `json:"generation"` // of the last Desired it took; 0 after a start
	// Settled: everything in that document stands.
	Settled          bool             `json:"settled"`
	BootID           string           `json:"boot_id"`
	Version          string           `json:"version"`
	Address          string           `json:"address"`
	Initiator        string           `json:"initiator"`
	Origin           bool             `json:"origin"`
	Compute          bool             `json:"compute"`
	AvailabilityZone string           `json:"availability_zone"`
	Rack             string           `json:"rack"`
	Backend          string           `json:"backend,omitempty"` // that its pool is of; "": the control plane's name
	Pool             ObservedPool     `json:"pool"`
	ImageFreeBytes   int64            `json:"image_free_bytes"`
	CacheDriver      string           `json:"cache_driver"`
	CacheReason      string           `json:"cache_reason"`
	TargetHelper     string           `json:"target_helper"`
	Backups          bool             `json:"backups,omitempty"` // the store of backups can be used
	Images           []ObservedImage  `json:"images"`
	Volumes          []ObservedVolume `json:"volumes"`
	Tasks            []ObservedTask   `json:"tasks,omitempty"`
	// Unknown lists devices, targets and sessions under our names that no document
	// mentions. They may hold data and are left alone.
	Unknown []string `json:"unknown,omitempty"`
	// Problems of the node as a whole, in words for an operator.
	Problems []string `json:"problems,omitempty"`
}

// ObservedPool is the thin pool.
type ObservedPool struct {
	UUID          string `json:"uuid"`
	State         string `json:"state"` // rw, ro, out_of_data_space, fail, missing, foreign, none
	TotalBytes    int64  `json:"total_bytes"`
	FreeBytes     int64  `json:"free_bytes"`
	MetadataTotal int64  `json:"metadata_total"`
	MetadataFree  int64  `json:"metadata_free"`
}

// DeviceState is how far an image or volume is on the node.
type DeviceState string

// Device states.
const (
	DeviceAbsent    DeviceState = "absent"
	DeviceInactive  DeviceState = "inactive"  // volume: data only
	DeviceImporting DeviceState = "importing" // root: fetching from Glance
	DeviceBuilding  DeviceState = "building"  // on the way; Error says what is in the way, if anything
	DeviceReady     DeviceState = "ready"
	DevicePathLost  DeviceState = "path-lost" // relay: stands, but its parent is out of reach
	DeviceError     DeviceState = "error"     // trying again as it is does not help
)

// ObservedImage is one image on the node.
type ObservedImage struct {
	ID     string      `json:"id"`
	Role   MemberRole  `json:"role"`
	State  DeviceState `json:"state"`
	Error  string      `json:"error,omitempty"`
	Parent string      `json:"parent,omitempty"` // host it reads from now
	// Phase, Done and Total of an import, in bytes.
	Phase        string   `json:"phase,omitempty"`
	Done         int64    `json:"done,omitempty"`
	Total        int64    `json:"total,omitempty"`
	VirtualBytes int64    `json:"virtual_bytes,omitempty"`
	DeviceBytes  int64    `json:"device_bytes,omitempty"`
	CacheMade    bool     `json:"cache_made,omitempty"`
	Exported     bool     `json:"exported,omitempty"`
	Children     []string `json:"children,omitempty"` // initiators logged in now
	// Counters since the stack was assembled, in bytes.
	UpstreamBytes int64 `json:"upstream_bytes"`
	ReadBytes     int64 `json:"read_bytes"`
	ServedBytes   int64 `json:"served_bytes"`
	CacheHits     int64 `json:"cache_hits"`
	CacheMisses   int64 `json:"cache_misses"`
}

// ObservedVolume is one volume on the node.
type ObservedVolume struct {
	ID     string      `json:"id"`
	State  DeviceState `json:"state"`
	Error  string      `json:"error,omitempty"`
	Device string      `json:"device,omitempty"` // path, when ready
	// Materialized: the thin device ThinID was made. A volume that is reverted gets another one, so
	// a report says which it speaks of; 0 is that of an agent of before, or none.
	Materialized bool   `json:"materialized,omitempty"`
	ThinID       uint32 `json:"thin_id,omitempty"`
	// Bytes that the device has now, when ready.
	Bytes int64 `json:"bytes,omitempty"`
	// LUN of its target and the initiators that are let in, when exported.
	LUN      int      `json:"lun,omitempty"`
	Exported bool     `json:"exported,omitempty"`
	Hosts    []string `json:"hosts,omitempty"`
	// CowBytes that its thin device takes in the pool, where known.
	CowBytes int64 `json:"cow_bytes,omitempty"`
}

// TaskState is how far a task is on its node.
type TaskState string

// States of a task.
const (
	TaskStateWorking TaskState = "working" // Error says what is in the way, if anything
	TaskStateDone    TaskState = "done"    // Result says what came of it
	TaskStateFailed  TaskState = "failed"  // for good; Error says why
	TaskStateAbsent  TaskState = "absent"  // nothing of it is here
)

// ObservedTask is one task on the node.
type ObservedTask struct {
	ID     string    `json:"id"`
	State  TaskState `json:"state"`
	Phase  string    `json:"phase,omitempty"`
	Done   int64     `json:"done,omitempty"`  // bytes
	Total  int64     `json:"total,omitempty"` // bytes, 0: unknown
	Result JSON      `json:"result,omitempty"`
	Error  string    `json:"error,omitempty"`
}

// Image returns the report on one image; the zero report says absent.
func (o *Observed) Image(id string) ObservedImage {
	for _, i := range o.Images {
		if i.ID == id {
			return i
		}
	}
	return ObservedImage{ID: id, State: DeviceAbsent}
}

// Volume returns the report on one volume; the zero report says absent.
func (o *Observed) Volume(id string) ObservedVolume {
	for _, v := range o.Volumes {
		if v.ID == id {
			return v
		}
	}
	return ObservedVolume{ID: id, State: DeviceAbsent}
}
