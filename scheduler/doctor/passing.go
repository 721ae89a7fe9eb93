package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/vmthunder/vmthunder/db/model"
)

// Ending is what becomes of something whose work nobody does any more: what the work's own end would have
// made of it.
type Ending struct {
	To string // status
	// ByAttachments: the status that its attachments have; To is "".
	ByAttachments bool
	// Gone: the row goes. It has no thin device anywhere.
	Gone bool
	Why  string // written beside the status; "" clears it
}

// interrupted is why something has not become what it was to be.
const interrupted = "the work was interrupted; ask for it again"

// End tells what becomes of something that is passing, if nothing works on it any more: no task, no node,
// no import. What a node has to do is not ended by rows, so there is none then.
func End(p model.Passing) (Ending, bool) {
	has := func(k model.TaskKind) bool { return slices.Contains(strings.Split(p.Tasks, ","), string(k)) }
	homeless := p.Home == nil
	switch p.Kind {
	case model.FindVolume:
		importing := p.ImageStatus == model.ImageQueued || p.ImageStatus == model.ImageImporting
		switch model.VolumeStatus(p.Status) {
		case model.VolumeCreating:
			return Ending{To: string(model.VolumeError), Why: interrupted}, homeless && !importing && !has(model.TaskRestoreBackup)
		case model.VolumeDownloading:
			switch {
			case p.Copying || importing:
				return Ending{}, false
			case p.ImageStatus == model.ImageActive: // a server that is rebuilt may have it reserved
				return Ending{ByAttachments: true}, true
			}
			return Ending{To: string(model.VolumeError), Why: "its image could not be imported; make it anew"}, true
		case model.VolumeUploading:
			return Ending{ByAttachments: true}, !has(model.TaskUploadImage)
		case model.VolumeBackingUp:
			return Ending{ByAttachments: true}, !has(model.TaskCreateBackup)
		case model.VolumeRestoringBackup:
			return Ending{To: string(model.VolumeErrorRestoring), Why: interrupted}, !has(model.TaskRestoreBackup)
		case model.VolumeMaintenance: // else somebody has set it so
			return Ending{ByAttachments: true, Why: interrupted}, p.Migration != "" && !has(model.TaskMigrate) && !has(model.TaskServe)
		case model.VolumeExtending:
			return Ending{ByAttachments: true}, homeless
		case model.VolumeDeleting:
			return Ending{Gone: true}, homeless && p.Parts == 0
		case model.VolumeUnmanaging:
			return Ending{Gone: true}, homeless
		default:
		}
	case model.FindSnapshot:
		switch model.SnapshotStatus(p.Status) {
		case model.SnapshotDeleting:
			return Ending{Gone: true}, homeless
		case model.SnapshotRestoring:
			return Ending{To: string(model.SnapshotAvailable)}, p.Parts == 0
		case model.SnapshotBackingUp:
			return Ending{To: string(model.SnapshotAvailable)}, !has(model.TaskCreateBackup)
		default:
		}
	case model.FindBackup:
		switch model.BackupStatus(p.Status) {
		case model.BackupCreating:
			return Ending{To: string(model.BackupError), Why: interrupted}, !has(model.TaskCreateBackup)
		case model.BackupDeleting:
			return Ending{To: string(model.BackupErrorDeleting), Why: interrupted}, !has(model.TaskDeleteBackup)
		case model.BackupRestoring:
			return Ending{To: string(model.BackupAvailable)}, !has(model.TaskRestoreBackup)
		default:
		}
	default:
	}
	return Ending{}, false
}

// passing tells of something whose status says that work is being done on it, for longer than that takes.
func passing(p model.Passing, alive map[string]bool, o Options, out *list) {
	age := o.Now.Sub(p.Since)
	if age < o.Stuck {
		return
	}
	f := model.Finding{Severity: model.SeverityWarning, Code: "stuck", Kind: p.Kind, ID: p.ID.String(), Node: deref(p.Home)}
	if p.Volume != nil {
		f.Volume = p.Volume.String()
	}
	was := fmt.Sprintf("has been %s for %s", p.Status, Ago(age))
	if end, ok := End(p); ok {
		f.Severity, f.Repair = model.SeverityError, model.RepairStatus
		f.Text = was + ", and nothing works on it any more"
		f.Remedy = becomes(end)
		out.add(f)
		return
	}
	switch {
	case worked(p): // by a task or an import, which is looked at itself
		return
	case p.Kind == model.FindVolume && (p.Status == string(model.VolumeAttaching) || p.Status == string(model.VolumeDetaching)):
		f.Text, f.Remedy = was, "ask Nova whether it is at it (openstack server show); if not, openstack volume set --state"
	case p.Kind == model.FindGroup || p.Kind == model.FindGroupSnapshot:
		if p.Parts > 0 {
			return // which are looked at themselves
		}
		f.Text, f.Remedy = was+", but none of its parts is", "cinder group-reset-state, or delete it"
	case f.Node != "" && !alive[f.Node]:
		f.Severity, f.Text, f.Remedy = model.SeverityInfo, was+": its node "+f.Node+" is down", "start the node"
	case f.Node != "":
		f.Text, f.Remedy, f.Repair = was+": its node "+f.Node+" has it to do", "the agent's log says what is in the way", model.RepairDocument
	case p.Parts > 0:
		f.Text, f.Remedy = was+": it waits for "+count(p.Parts, "snapshot"), "see those"
	default:
		f.Text, f.Remedy = was, "openstack volume set --state, when nobody is at it"
	}
	out.add(f)
}

// worked tells whether a task or an import is at it.
func worked(p model.Passing) bool {
	importing := p.ImageStatus == model.ImageQueued || p.ImageStatus == model.ImageImporting
	waits := p.Status == string(model.VolumeDownloading) || p.Status == string(model.VolumeCreating) && !p.Copying
	return p.Tasks != "" || p.Kind == model.FindVolume && importing && waits || p.Kind == model.FindSnapshot && p.Status == string(model.SnapshotRestoring)
}

// becomes says in words what a repair makes of it.
func becomes(e Ending) string {
	switch {
	case e.Gone:
		return "a repair removes the row; nothing of it is on any node"
	case e.ByAttachments:
		return "a repair gives it the status back that its attachments have"
	}
	return "a repair makes it " + e.To
}
