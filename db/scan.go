package db

import (
	"context"
	"slices"

	"github.com/vmthunder/vmthunder/db/model"
)

// shownFields are what shownColumns are read into, in their order.
func shownFields(v *model.Volume) []any {
	return []any{
		&v.ID, &v.ProjectID, &v.UserID, &v.Name, &v.Description, &v.SizeGiB, &v.Status, &v.AttachStatus,
		&v.MigrationStatus, &v.AvailabilityZone, &v.VolumeTypeID, &v.VolumeType, &v.Bootable, &v.Multiattach, &v.ReadOnly,
		&v.ConsumesQuota, &v.ImageID, &v.SnapshotID, &v.SourceVolID, &v.GroupID, &v.EncryptionKeyID, &v.Metadata, &v.AdminMetadata,
		&v.ImageMetadata, &v.Home, &v.Placed, &v.HostBackend, &v.Error, &v.CreatedAt, &v.UpdatedAt,
	}
}

// read fills dst, a pointer to a slice, with the rows of a list. Volumes, of which lists
// are long, are read without reflection, which took as long as all else that is done with
// them here.
func (s *Store) read(ctx context.Context, dst any, query string, args ...any) error {
	vs, ok := dst.(*[]model.Volume)
	if !ok {
		return s.list(ctx, dst, query, args...)
	}
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return translate(ctx, err)
	}
	defer rows.Close()
	var v model.Volume
	fields := shownFields(&v) // once for all rows
	for rows.Next() {
		v = model.Volume{}
		if err := rows.Scan(fields...); err != nil {
			return translate(ctx, err)
		}
		if len(*vs) == cap(*vs) { // rows are large: append by itself would copy them more often
			*vs = slices.Grow(*vs, max(16, len(*vs)))
		}
		*vs = append(*vs, v)
	}
	return translate(ctx, rows.Err())
}
