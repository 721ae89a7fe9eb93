package v3test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/keystone"
	v3 "github.com/vmthunder/vmthunder/api/v3"
	"github.com/vmthunder/vmthunder/db/model"
)

// Scheduler works on a [Store]: volumes are available at once (downloading if their image
// is in the store and not active), connections stand at once, deleted volumes are gone.
type Scheduler struct {
	Store *Store
	// BusErr is what Healthy returns, the others what the methods of their names return.
	BusErr, CreateErr, ConnectErr, DisconnectErr, WarmErr, MigrateErr, RetypeErr, DoctorErr error
	// Diagnosis is what Doctor finds.
	Diagnosis model.Diagnosis
	// Calls lists what was called, for instance "connect <id>".
	Calls []string
	// Pool is what every node's pool holds that is not managed.
	Pool []model.Manageable
	// BackupStatus that backups get when they are made; "": creating. BackupErr is what
	// restores and deletions of backups return that are not refused.
	BackupStatus model.BackupStatus
	BackupErr    error
	// Uploads that were begun.
	Uploads []model.Task
}

var _ v3.Scheduler = (*Scheduler)(nil)

func (s *Scheduler) called(what string, id any) {
	s.Calls = append(s.Calls, fmt.Sprintf("%s %v", what, id))
}

// Healthy implements v3.Scheduler.
func (s *Scheduler) Healthy(context.Context) error { return s.BusErr }

// Create implements v3.Scheduler.
func (s *Scheduler) Create(_ context.Context, vols []model.Volume, _ model.StringMap, image *model.Image) ([]model.Volume, error) {
	unlock, err := s.Store.lock()
	defer unlock()
	s.called("create", len(vols))
	if err != nil {
		return nil, err
	}
	if s.CreateErr != nil {
		return nil, s.CreateErr
	}
	if len(vols) > 0 {
		if err := s.Store.fits(vols[0].ProjectID, vols...); err != nil {
			return nil, err
		}
	}
	out := make([]model.Volume, 0, len(vols))
	for _, v := range vols {
		v.CreatedAt = s.Store.tick()
		v.Status = model.VolumeAvailable
		if image != nil {
			for _, i := range s.Store.ImageRows {
				if i.ID == image.ID && i.Status != model.ImageActive {
					v.Status = model.VolumeDownloading
				}
			}
		}
		s.Store.VolumeRows = append(s.Store.VolumeRows, v)
		out = append(out, s.Store.copyOf(&v))
		s.Store.touch(&s.Store.VolumeRows[len(s.Store.VolumeRows)-1])
	}
	return out, nil
}

// Delete implements v3.Scheduler.
func (s *Scheduler) Delete(_ context.Context, id uuid.UUID, o model.DeleteOptions) error {
	unlock, err := s.Store.lock()
	defer unlock()
	s.called("delete", id)
	if err != nil {
		return err
	}
	v, err := s.Store.volume(id)
	if err != nil {
		return err
	}
	if !o.Cascade && slices.ContainsFunc(s.Store.SnapshotRows, func(sn model.Snapshot) bool { return sn.VolumeID == id }) {
		return fmt.Errorf("volume %s has snapshots: %w", id, model.ErrConflict)
	}
	if !o.Foreign && slices.ContainsFunc(s.Store.SnapshotRows, func(sn model.Snapshot) bool { return sn.VolumeID == id && sn.ProjectID != v.ProjectID }) {
		return fmt.Errorf("volume %s has snapshots of others: %w", id, model.ErrConflict)
	}
	attached := slices.ContainsFunc(s.Store.AttachmentRows, func(a model.Attachment) bool { return a.VolumeID == id })
	if attached || v.GroupID != nil || !o.Force && !v.Deletable() {
		return fmt.Errorf("volume %s is %s: %w", id, v.Status, model.ErrConflict)
	}
	s.Store.VolumeRows = slices.DeleteFunc(s.Store.VolumeRows, func(v model.Volume) bool { return v.ID == id })
	s.Store.SnapshotRows = slices.DeleteFunc(s.Store.SnapshotRows, func(sn model.Snapshot) bool { return sn.VolumeID == id })
	return nil
}

// Warm implements v3.Scheduler: the hosts become members of an image that the store has
// as active; one that it does not have is queued.
func (s *Scheduler) Warm(_ context.Context, image model.Image, hosts []string) (model.ImageStatus, error) {
	unlock, err := s.Store.lock()
	defer unlock()
	s.called("warm", hosts)
	if err != nil {
		return "", err
	}
	if s.WarmErr != nil {
		return "", s.WarmErr
	}
	i := slices.IndexFunc(s.Store.ImageRows, func(i model.Image) bool { return i.ID == image.ID })
	if i < 0 {
		image.Status = model.ImageQueued
		s.Store.ImageRows = append(s.Store.ImageRows, image)
		return image.Status, nil
	}
	if st := s.Store.ImageRows[i].Status; st != model.ImageActive {
		return st, nil
	}
	for _, h := range hosts {
		s.Store.MemberRows = append(s.Store.MemberRows, model.Member{
			ImageID: image.ID, Host: h, Role: model.RoleRelay, State: model.MemberJoining, Depth: 1, Pinned: true,
		})
	}
	return model.ImageActive, nil
}

// Drain implements v3.Scheduler: the node's row says so.
func (s *Scheduler) Drain(_ context.Context, host string, on bool) error {
	unlock, err := s.Store.lock()
	defer unlock()
	s.called(fmt.Sprintf("drain %v", on), host)
	if err != nil {
		return err
	}
	for i := range s.Store.NodeRows {
		if n := &s.Store.NodeRows[i]; n.Host == host {
			n.Draining, n.Enabled = on, !on
			return nil
		}
	}
	return model.ErrNotFound
}

// Drained implements v3.Scheduler: volumes that live on the node are left.
func (s *Scheduler) Drained(_ context.Context, host string) (model.Drain, error) {
	unlock, err := s.Store.lock()
	defer unlock()
	if err != nil {
		return model.Drain{}, err
	}
	for _, n := range s.Store.NodeRows {
		if n.Host != host {
			continue
		}
		d := model.Drain{Node: n}
		for _, v := range s.Store.VolumeRows {
			if v.Home != nil && *v.Home == host {
				d.Volumes = append(d.Volumes, v)
			}
		}
		return d, nil
	}
	return model.Drain{}, model.ErrNotFound
}

// Doctor implements v3.Scheduler: it finds Diagnosis, and mends all that can be.
func (s *Scheduler) Doctor(_ context.Context, c model.Checkup) (model.Diagnosis, error) {
	unlock, err := s.Store.lock()
	defer unlock()
	s.called("doctor", c)
	if err != nil {
		return model.Diagnosis{}, err
	}
	d := s.Diagnosis
	if !c.Repair {
		return d, s.DoctorErr
	}
	d.Findings = nil
	for _, f := range s.Diagnosis.Findings {
		if f.Repair == "" {
			d.Findings = append(d.Findings, f)
			continue
		}
		d.Mended = append(d.Mended, model.Mended{Repair: f.Repair, Of: string(f.Kind) + " " + f.ID, Text: "done"})
	}
	return d, s.DoctorErr
}

// Unwarm implements v3.Scheduler: the hosts are not pinned any more.
func (s *Scheduler) Unwarm(_ context.Context, image uuid.UUID, hosts []string) error {
	unlock, err := s.Store.lock()
	defer unlock()
	s.called("unwarm", hosts)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(s.Store.ImageRows, func(i model.Image) bool { return i.ID == image }) {
		return fmt.Errorf("image %s: %w", image, model.ErrNotFound)
	}
	for i := range s.Store.MemberRows {
		if m := &s.Store.MemberRows[i]; m.ImageID == image && slices.Contains(hosts, m.Host) {
			m.Pinned = false
		}
	}
	return nil
}

// Connect implements v3.Scheduler.
func (s *Scheduler) Connect(_ context.Context, attachment uuid.UUID, c model.Connector, raw []byte, mode string) (model.Attachment, error) {
	unlock, err := s.Store.lock()
	defer unlock()
	s.called("connect", attachment)
	if err != nil {
		return model.Attachment{}, err
	}
	if s.ConnectErr != nil {
		return model.Attachment{}, s.ConnectErr
	}
	a, err := s.Store.attachment(attachment)
	if err != nil {
		return model.Attachment{}, err
	}
	v, err := s.Store.volume(a.VolumeID)
	if err != nil {
		return model.Attachment{}, err
	}
	host, mount := c.Host, c.Mountpoint
	if v.Home == nil {
		v.Home = &host
	}
	info, err := json.Marshal(map[string]any{
		"driver_volume_type": "local", "device_path": "/dev/mapper/volume-" + v.ID.String(), "access_mode": mode,
	})
	if err != nil {
		return model.Attachment{}, err
	}
	now := s.Store.tick()
	a.AttachedHost, a.Connector, a.ConnectionInfo = &host, model.JSON(raw), model.JSON(info)
	a.Status, a.AttachMode, a.AttachedAt = model.AttachAttaching, &mode, &now
	if mount != "" {
		a.Mountpoint = &mount
	}
	out := *a
	s.Store.derive(v.ID)
	return out, nil
}

// Disconnect implements v3.Scheduler.
func (s *Scheduler) Disconnect(_ context.Context, attachment uuid.UUID) ([]model.Attachment, error) {
	unlock, err := s.Store.lock()
	defer unlock()
	s.called("disconnect", attachment)
	if err != nil {
		return nil, err
	}
	if s.DisconnectErr != nil {
		return nil, s.DisconnectErr
	}
	a, err := s.Store.attachment(attachment)
	if err != nil {
		return nil, err
	}
	volume := a.VolumeID
	s.Store.AttachmentRows = slices.DeleteFunc(s.Store.AttachmentRows, func(a model.Attachment) bool { return a.ID == attachment })
	s.Store.derive(volume)
	if v, err := s.Store.volume(volume); err == nil {
		delete(v.AdminMetadata, "attached_mode")
	}
	left := []model.Attachment{}
	for _, a := range s.Store.AttachmentRows {
		if a.VolumeID == volume {
			left = append(left, a)
		}
	}
	return left, nil
}

// BeginUpload implements v3.Scheduler.
func (s *Scheduler) BeginUpload(_ context.Context, id uuid.UUID, args model.UploadArgs, k model.Task, from []model.VolumeStatus) (model.Task, error) {
	unlock, err := s.Store.lock()
	defer unlock()
	s.called("begin upload", id)
	if err != nil {
		return k, err
	}
	v, err := s.Store.volume(id)
	if err != nil {
		return k, err
	}
	if !slices.Contains(from, v.Status) {
		return k, fmt.Errorf("%w: volume %s is %s", model.ErrConflict, id, v.Status)
	}
	k.ID, k.VolumeID, k.Kind = uuid.New(), id, model.TaskUploadImage
	if k.Args, err = json.Marshal(args); err != nil {
		return k, err
	}
	s.Uploads = append(s.Uploads, k)
	v.PreviousStatus, v.Status = new(v.Status), model.VolumeUploading
	s.Store.touch(v)
	return k, nil
}

// StartUpload implements v3.Scheduler. The data is sent at once.
func (s *Scheduler) StartUpload(ctx context.Context, task uuid.UUID) error {
	s.called("start upload", task)
	return s.CancelUpload(ctx, task, "")
}

// CancelUpload implements v3.Scheduler.
func (s *Scheduler) CancelUpload(_ context.Context, task uuid.UUID, why string) error {
	unlock, err := s.Store.lock()
	defer unlock()
	if err != nil {
		return err
	}
	if why != "" {
		s.called("cancel upload", task)
	}
	for _, k := range s.Uploads {
		if k.ID != task {
			continue
		}
		v, err := s.Store.volume(k.VolumeID)
		if err != nil {
			return err
		}
		v.Status = *v.PreviousStatus
		s.Store.touch(v)
	}
	return nil
}

// Glance has the images it is given.
type Glance struct {
	Images  []model.Image
	Created []v3.NewImage
	Err     error
}

var _ v3.Glance = (*Glance)(nil)

// Image implements v3.Glance.
func (g *Glance) Image(_ context.Context, _ keystone.Identity, ref string) (model.Image, error) {
	if g.Err != nil {
		return model.Image{}, g.Err
	}
	var found []model.Image
	for _, i := range g.Images {
		if i.ID.String() == strings.ToLower(ref) || i.Name == ref {
			found = append(found, i)
		}
	}
	switch len(found) {
	case 0:
		return model.Image{}, fmt.Errorf("image %s: %w", ref, model.ErrNotFound)
	case 1:
		return found[0], nil
	}
	return model.Image{}, fmt.Errorf("image %s: %w", ref, v3.ErrAmbiguous)
}

// Create implements v3.Glance.
func (g *Glance) Create(_ context.Context, _ keystone.Identity, image v3.NewImage) (v3.NewImage, error) {
	if g.Err != nil {
		return v3.NewImage{}, g.Err
	}
	g.Created = append(g.Created, image)
	if image.Visibility == "" {
		image.Visibility = "public" // as the recorded Cinder's
	}
	if image.Protected == nil {
		image.Protected = new(bool)
	}
	return image, nil
}

// Nova says that servers use the attachments in Uses: key "server volume".
type Nova struct {
	Uses map[string]string
	Err  error
}

var _ v3.Nova = (*Nova)(nil)

// Attachment implements v3.Nova.
func (n *Nova) Attachment(_ context.Context, _ keystone.Identity, server, volume uuid.UUID) (string, error) {
	if n.Err != nil {
		return "", n.Err
	}
	if a, ok := n.Uses[server.String()+" "+volume.String()]; ok {
		return a, nil
	}
	return "", fmt.Errorf("server %s: %w", server, model.ErrNotFound)
}
