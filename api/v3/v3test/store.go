// Package v3test has in-memory stand-ins for what the REST API consumes: a store, a
// scheduler, an image service and Nova. They keep the rules of the interfaces in api/v3,
// on a clock that tests set, and do nothing behind.
package v3test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	v3 "github.com/vmthunder/vmthunder/api/v3"
	"github.com/vmthunder/vmthunder/db/model"
)

// Store is a database in memory. Its exported fields may be set before use, or with
// [Store.Do]. Safe for concurrent use.
type Store struct {
	mu sync.Mutex

	VolumeRows        []model.Volume
	SnapshotRows      []model.Snapshot
	BackupRows        []model.Backup
	AttachmentRows    []model.Attachment
	TypeRows          []model.VolumeType
	TypeAccessRows    map[uuid.UUID][]string
	EncryptionRows    []model.Encryption
	DefaultRows       []model.DefaultType
	QoSRows           []model.QoS
	TransferRows      []model.Transfer // open ones
	GroupTypeRows     []model.GroupType
	GroupRows         []model.Group // without what is joined to them
	GroupSnapshotRows []model.GroupSnapshot
	NodeRows          []model.Node
	ServiceRows       []model.Service
	TaskRows          []model.Task
	MessageRows       []model.Message
	ImageRows         []model.Image
	MemberRows        []model.Member
	LimitRows         map[string]int64            // where nobody has set any
	QuotaRows         map[string]map[string]int64 // by project
	ClassRows         map[string]map[string]int64 // by quota class
	// Err, if set, is what every method returns: model.ErrUnavailable for a database that is down.
	Err error
	// Clock gives each write its time, a microsecond later than the one before.
	Clock time.Time
}

var (
	_ v3.Store          = (*Store)(nil)
	_ v3.LegacyAttacher = (*Store)(nil)
)

// NewStore is an empty store with the types that every one has and no node.
func NewStore() *Store {
	s := &Store{Clock: time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC), TypeAccessRows: map[uuid.UUID][]string{}, LimitRows: map[string]int64{},
		QuotaRows: map[string]map[string]int64{}, ClassRows: map[string]map[string]int64{}}
	description := "Default Volume Type"
	s.TypeRows = []model.VolumeType{{
		ID: uuid.New(), Name: "__DEFAULT__", Description: &description, IsPublic: true, ExtraSpecs: model.StringMap{}, CreatedAt: s.tick(),
	}}
	legacy := "Default group type for migrating cgsnapshot"
	s.GroupTypeRows = []model.GroupType{{
		ID: uuid.New(), Name: model.LegacyGroupType, Description: &legacy, IsPublic: true,
		Specs: model.StringMap{"consistent_group_snapshot_enabled": "<is> True"}, CreatedAt: s.tick(),
	}}
	return s
}

// Do runs fn while nobody else uses the store.
func (s *Store) Do(fn func(s *Store)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn(s)
}

func (s *Store) tick() time.Time {
	s.Clock = s.Clock.Add(time.Microsecond)
	return s.Clock
}

// lock is for every method: it returns the error that is set, with the lock held.
func (s *Store) lock() (unlock func(), err error) {
	s.mu.Lock()
	return s.mu.Unlock, s.Err
}

func (s *Store) volume(id uuid.UUID) (*model.Volume, error) {
	for i := range s.VolumeRows {
		if s.VolumeRows[i].ID == id {
			return &s.VolumeRows[i], nil
		}
	}
	return nil, fmt.Errorf("volume %s: %w", id, model.ErrNotFound)
}

// copyOf a row with its attachments and its type's name.
func (s *Store) copyOf(v *model.Volume) model.Volume {
	c := *v
	c.Metadata, c.ImageMetadata, c.AdminMetadata = maps.Clone(v.Metadata), maps.Clone(v.ImageMetadata), maps.Clone(v.AdminMetadata)
	c.Attachments = nil
	for _, a := range s.AttachmentRows {
		if a.VolumeID == v.ID {
			c.Attachments = append(c.Attachments, a)
		}
	}
	if v.VolumeTypeID != nil {
		for _, t := range s.TypeRows {
			if t.ID == *v.VolumeTypeID {
				name := t.Name
				c.VolumeType = &name
			}
		}
	}
	return c
}

func (s *Store) touch(v *model.Volume) {
	t := s.tick()
	v.UpdatedAt = &t
}

// Ping implements v3.Store.
func (s *Store) Ping(context.Context) error {
	unlock, err := s.lock()
	defer unlock()
	return err
}

// Volume implements v3.Store.
func (s *Store) Volume(_ context.Context, id uuid.UUID, projectID string) (model.Volume, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return model.Volume{}, err
	}
	v, err := s.volume(id)
	if err != nil || projectID != "" && v.ProjectID != projectID {
		return model.Volume{}, fmt.Errorf("volume %s: %w", id, model.ErrNotFound)
	}
	return s.copyOf(v), nil
}

// ListVolumes implements v3.Store.
func (s *Store) ListVolumes(_ context.Context, q model.ListQuery) ([]model.Volume, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return nil, err
	}
	rows := make([]model.Volume, 0, len(s.VolumeRows))
	for i := range s.VolumeRows {
		rows = append(rows, s.copyOf(&s.VolumeRows[i]))
	}
	out, err := list(rows, q, volumeFields)
	for i := range out {
		v := &out[i]
		v.PreviousStatus, v.ThinID, v.SourceThin, v.Materialized, v.RequestID, v.LaunchedAt = nil, nil, nil, false, "", nil
		if !q.Detail {
			v.Attachments = nil
		}
	}
	return out, err
}

// CountVolumes implements v3.Store.
func (s *Store) CountVolumes(ctx context.Context, q model.ListQuery) (int, error) {
	q.Limit, q.Offset, q.Marker = 0, 0, nil
	rows, err := s.ListVolumes(ctx, q)
	return len(rows), err
}

// PatchVolume implements v3.Store.
func (s *Store) PatchVolume(_ context.Context, id uuid.UUID, p model.VolumePatch) (model.Volume, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return model.Volume{}, err
	}
	v, err := s.volume(id)
	if err != nil {
		return model.Volume{}, err
	}
	set(&v.Name, p.Name)
	set(&v.Description, p.Description)
	if p.NoName {
		v.Name = nil
	}
	if p.NoDescription {
		v.Description = nil
	}
	if p.Bootable != nil {
		v.Bootable = *p.Bootable
	}
	if p.ReadOnly != nil {
		v.ReadOnly = *p.ReadOnly
		if v.AdminMetadata == nil {
			v.AdminMetadata = model.StringMap{}
		}
		v.AdminMetadata["readonly"] = map[bool]string{true: "True", false: "False"}[*p.ReadOnly]
	}
	if p.Metadata != nil {
		v.Metadata = maps.Clone(p.Metadata)
	}
	if p.ImageMetadata != nil {
		v.ImageMetadata = maps.Clone(p.ImageMetadata)
	}
	if p.VolumeTypeID != nil {
		v.VolumeTypeID = p.VolumeTypeID
	}
	s.touch(v)
	return s.copyOf(v), nil
}

func set[T any](field **T, value *T) {
	if value != nil {
		*field = value
	}
}

// EditVolumeMaps implements v3.Store.
func (s *Store) EditVolumeMaps(_ context.Context, id uuid.UUID, edit func(metadata, imageMetadata model.StringMap) error) (model.Volume, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return model.Volume{}, err
	}
	v, err := s.volume(id)
	if err != nil {
		return model.Volume{}, err
	}
	m, im := model.StringMap{}, model.StringMap{}
	maps.Copy(m, v.Metadata)
	maps.Copy(im, v.ImageMetadata)
	if err := edit(m, im); err != nil {
		return model.Volume{}, fmt.Errorf("edit volume %s: %w", id, err)
	}
	v.Metadata, v.ImageMetadata = m, im
	s.touch(v)
	return s.copyOf(v), nil
}

// MoveVolume implements v3.Store.
func (s *Store) MoveVolume(_ context.Context, id uuid.UUID, m model.VolumeMove) (model.Volume, error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return model.Volume{}, err
	}
	v, err := s.volume(id)
	if err != nil {
		return model.Volume{}, err
	}
	if !slices.Contains(m.From, v.Status) {
		return model.Volume{}, fmt.Errorf("volume %s is %s: %w", id, v.Status, model.ErrConflict)
	}
	v.Status, v.Error = m.To, m.Error
	s.touch(v)
	return s.copyOf(v), nil
}

// ResetVolume implements v3.Store.
func (s *Store) ResetVolume(_ context.Context, id uuid.UUID, status *model.VolumeStatus, attach *model.AttachStatus, migration *string) error {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return err
	}
	v, err := s.volume(id)
	if err != nil {
		return err
	}
	if status != nil {
		v.Status = *status
	}
	if attach != nil {
		v.AttachStatus = *attach
		if *attach == model.AttachDetached {
			s.AttachmentRows = slices.DeleteFunc(s.AttachmentRows, func(a model.Attachment) bool { return a.VolumeID == id })
		}
	}
	if set(&v.MigrationStatus, migration); text(v.MigrationStatus) == "" {
		v.MigrationStatus = nil
	}
	s.touch(v)
	return nil
}

// Summary implements v3.Store.
func (s *Store) Summary(_ context.Context, projectID string) (count int, gib int64, metadata map[string][]string, err error) {
	unlock, err := s.lock()
	defer unlock()
	if err != nil {
		return 0, 0, nil, err
	}
	metadata = map[string][]string{}
	for _, v := range s.VolumeRows {
		if projectID != "" && v.ProjectID != projectID {
			continue
		}
		count++
		gib += int64(v.SizeGiB)
		for k, x := range v.Metadata {
			if !slices.Contains(metadata[k], x) {
				metadata[k] = append(metadata[k], x)
			}
		}
	}
	return count, gib, metadata, nil
}

// SharesOf implements v3.Store.
func (s *Store) SharesOf(_ context.Context, host string) ([]model.Share, error) {
	unlock, err := s.lock()
	defer unlock()
	by := map[string]model.Share{}
	for _, v := range s.VolumeRows {
		if v.Home == nil || *v.Home != host {
			continue
		}
		x := by[v.ProjectID]
		x.ProjectID, x.Volumes, x.GiB = v.ProjectID, x.Volumes+1, x.GiB+int64(v.SizeGiB)
		for _, sn := range s.SnapshotRows {
			if sn.VolumeID == v.ID {
				x.Snapshots, x.SnapshotGiB = x.Snapshots+1, x.SnapshotGiB+int64(sn.SizeGiB)
			}
		}
		by[v.ProjectID] = x
	}
	var out []model.Share
	for _, project := range slices.Sorted(maps.Keys(by)) {
		out = append(out, by[project])
	}
	return out, err
}

// Allocated implements v3.Store.
func (s *Store) Allocated(context.Context) (map[string]v3.Allocation, error) {
	unlock, err := s.lock()
	defer unlock()
	out := map[string]v3.Allocation{}
	for _, v := range s.VolumeRows {
		if v.Home != nil {
			a := out[*v.Home]
			out[*v.Home] = v3.Allocation{Volumes: a.Volumes + 1, GiB: a.GiB + int64(v.SizeGiB)}
		}
	}
	return out, err
}

func volumeFields(v *model.Volume) fields {
	return fields{
		id: v.ID, project: v.ProjectID, created: v.CreatedAt,
		maps: map[string]model.StringMap{"metadata": v.Metadata, "image_metadata": v.ImageMetadata},
		columns: map[string]string{
			"id": v.ID.String(), "name": text(v.Name), "description": text(v.Description), "status": string(v.Status),
			"size": fmt.Sprintf("%d", v.SizeGiB), "bootable": fmt.Sprint(v.Bootable), "multiattach": fmt.Sprint(v.Multiattach),
			"consumes_quota": fmt.Sprint(v.ConsumesQuota), "availability_zone": v.AvailabilityZone, "host": text(v.Host()),
			"user_id": v.UserID, "project_id": v.ProjectID, "migration_status": text(v.MigrationStatus),
			"attach_status": string(v.AttachStatus), "created_at": stamp(&v.CreatedAt), "updated_at": stamp(v.UpdatedAt),
			"group_id": textOf(v.GroupID), "volume_type_id": textOf(v.VolumeTypeID),
			"snapshot_id": textOf(v.SnapshotID), "source_volid": textOf(v.SourceVolID),
		},
	}
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func textOf(id *uuid.UUID) string {
	if id == nil {
		return ""
	}
	return id.String()
}

func stamp(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.000000000Z")
}

func has(s, part string) bool { return strings.Contains(strings.ToLower(s), strings.ToLower(part)) }
