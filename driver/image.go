package driver

import "context"

// ImageSource says where an image's bytes come from: Glance.
type ImageSource struct {
	ImageID    string `json:"image_id"`
	DiskFormat string `json:"disk_format"` // as Glance has it: raw, qcow2, vmdk, vhd, vhdx; never believed
	SizeBytes  int64  `json:"size"`        // of the image in Glance, -1 if unknown
	// HashAlgo and HashValue are Glance's os_hash_algo and os_hash_value; Checksum
	// its MD5. Empty where Glance has none.
	HashAlgo  string `json:"os_hash_algo,omitempty"`
	HashValue string `json:"os_hash_value,omitempty"`
	Checksum  string `json:"checksum,omitempty"`
	// MaxBytes is the largest virtual size that may be served.
	MaxBytes int64 `json:"max_bytes"`
}

// ImageFile is an image ready to be served from this node.
type ImageFile struct {
	ImageID string
	Path    string // raw content
	// VirtualBytes is the disk's size as the image says; DeviceBytes that of
	// Path, rounded up to 4096 with zeros.
	VirtualBytes int64
	DeviceBytes  int64
	InPlace      bool // served from Glance's own store, nothing was copied
}

// ImageProgress of an import. Total is 0 while unknown. Phase is download,
// verify or convert.
type ImageProgress struct {
	Phase string `json:"phase"`
	Done  int64  `json:"done"`  // bytes
	Total int64  `json:"total"` // bytes
}

// ImageStore keeps image files on an origin node.
type ImageStore interface {
	// Ensure imports the image unless it is here, resuming what a crash
	// interrupted. Calls for one image join. Errors that will not go away by
	// trying again wrap ErrUnusable.
	Ensure(ctx context.Context, s ImageSource, progress func(ImageProgress)) (ImageFile, error)
	// Find returns an image that is whole, or ErrNotFound.
	Find(ctx context.Context, imageID string) (ImageFile, error)
	// Remove deletes the image's files, finished or not.
	Remove(ctx context.Context, imageID string) error
	List(ctx context.Context) ([]ImageFile, error)
	// FreeBytes of the file system it stands on.
	FreeBytes(ctx context.Context) (int64, error)
}
