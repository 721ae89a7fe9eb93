package doctor

import (
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

// What replicas of the control plane do at least so often: look for dead nodes, take what is due.
const (
	replicaSilent = time.Minute
	leaseOver     = 30 * time.Second
	jobLate       = time.Minute
	// triesAreMany: a job that has failed so often will fail again.
	triesAreMany = 5
)

// Rows tells what is wrong in the database by itself, trees left out.
func Rows(c model.Census, o Options) []model.Finding {
	var out list
	alive := map[string]bool{}
	for _, n := range c.Nodes {
		alive[n.Host] = n.Alive
	}
	replicas(c, o, &out)
	jobs(c, o, &out)
	for i := range c.Tasks {
		task(&c.Tasks[i], alive, o, &out)
	}
	for _, p := range c.Passing {
		passing(p, alive, o, &out)
	}
	for _, v := range c.Crooked {
		crooked(v, o, &out)
	}
	for _, m := range c.Idle {
		idle(m, alive, o, &out)
	}
	initiators(c.Nodes, &out)
	numbers(c, &out)
	usage(c.Usage, &out)
	return out
}

func replicas(c model.Census, o Options, out *list) {
	for _, s := range c.Services {
		if age := o.Now.Sub(s.LastSeen); age > replicaSilent {
			out.add(model.Finding{
				Severity: model.SeverityInfo, Code: "replica-silent", Kind: model.FindControlPlane, ID: s.Host,
				Text: fmt.Sprintf("replica %s of %s has been silent for %s", s.Host, s.Binary, Ago(age)), Remedy: "start it, if it was not taken away",
			})
		}
	}
	for _, l := range c.Leases {
		if age := o.Now.Sub(l.ExpiresAt); age > leaseOver {
			out.add(model.Finding{
				Severity: model.SeverityError, Code: "nobody-leads", Kind: model.FindControlPlane, ID: l.Name,
				Text: fmt.Sprintf("the lease %s ran out %s ago, and no replica has taken it", l.Name, Ago(age)), Remedy: "see the control plane's log",
			})
		}
	}
}

// jobs that nobody takes, or that fail again and again.
func jobs(c model.Census, o Options, out *list) {
	seen := map[string]time.Time{}
	for _, s := range c.Services {
		seen[s.Host+"/"+s.Binary] = s.LastSeen
	}
	known := map[model.JobKind]bool{
		model.JobImportImage: true, model.JobReleaseImage: true, model.JobTellExtended: true, model.JobTellReimaged: true, model.JobAbandonImage: true,
	}
	for _, j := range c.Jobs {
		f := model.Finding{Severity: model.SeverityError, Kind: model.FindJob, ID: fmt.Sprintf("%s %s", j.Kind, j.Subject)}
		taken := j.TakenUntil != nil && j.TakenUntil.After(o.Now)
		switch late := o.Now.Sub(latest(j.RunAt, j.TakenUntil)); {
		case !known[j.Kind]:
			f.Code, f.Text, f.Remedy = "job-unknown", "this version knows no such job", "upgrade the replicas that do not"
		case taken:
			at, there := seen[deref(j.TakenBy)]
			if there && o.Now.Sub(at) <= replicaSilent {
				continue
			}
			f.Severity, f.Code = model.SeverityInfo, "job-orphan"
			f.Text = fmt.Sprintf("was taken by %s, which is silent; another takes it in %s", deref(j.TakenBy), Ago(j.TakenUntil.Sub(o.Now)))
		case late > jobLate:
			f.Code, f.Text, f.Remedy = "job-late", fmt.Sprintf("has been due for %s, and no replica takes it", Ago(late)), "see the control plane's log"
		case j.Attempts >= triesAreMany && j.Error != nil && !strings.HasPrefix(*j.Error, "not yet"):
			f.Severity, f.Code, f.Text, f.Remedy = model.SeverityWarning, "job-fails", fmt.Sprintf("has been tried %d times: %s", j.Attempts, *j.Error), "it is tried again and again; mend what is in the way"
		default:
			continue
		}
		out.add(f)
	}
}

func latest(at time.Time, until *time.Time) time.Time {
	if until != nil && until.After(at) {
		return *until
	}
	return at
}

// Tasks that the control plane gives up by itself are given that long before.
const taskGivenUp = 10 * time.Minute

func task(k *model.Task, alive map[string]bool, o Options, out *list) {
	f := model.Finding{Severity: model.SeverityWarning, Code: "task", Kind: model.FindTask, ID: k.ID.String(), Node: k.Host, Volume: k.VolumeID.String()}
	age := o.Now.Sub(k.UpdatedAt)
	switch {
	case k.Ended() && alive[k.Host] && age > o.Stuck:
		f.Text, f.Remedy, f.Repair = fmt.Sprintf("%s has %s %s ago, but its node has not removed what is left of it", k.Kind, k.Status, Ago(age)), "the agent's log says what is in the way", model.RepairDocument
	case k.Ended():
		return
	case !alive[k.Host]:
		f.Text, f.Remedy = fmt.Sprintf("%s waits for its node, which is down", k.Kind), fmt.Sprintf("start the node, or the task fails after %s", Ago(taskGivenUp))
	case k.Status == model.TaskQueued && age > o.Stuck:
		f.Severity, f.Text, f.Remedy = model.SeverityError, fmt.Sprintf("%s has been in the making for %s", k.Kind, Ago(age)), "no replica gives it up: see the control plane's log"
	case k.Error != nil && age > o.Stuck:
		f.Text, f.Remedy = fmt.Sprintf("%s has got no further for %s: %s", k.Kind, Ago(age), *k.Error), "mend that"
	case age > o.Stuck:
		f.Text, f.Remedy, f.Repair = fmt.Sprintf("%s has told nothing new for %s", k.Kind, Ago(age)), "the agent's log says what it does", model.RepairDocument
	default:
		return
	}
	out.add(f)
}

func crooked(v model.Crooked, o Options, out *list) {
	f := model.Finding{Severity: model.SeverityWarning, Code: "attachments", Kind: model.FindVolume, ID: v.ID.String(), Node: deref(v.Home)}
	if o.Now.Sub(v.Since) < jobLate {
		return
	}
	f.Text = fmt.Sprintf("is %s, but has %s that is attached", v.Status, count(v.Attached, "attachment"))
	f.Remedy = "ask Nova whether the server has it (openstack server show); then delete the attachment, or openstack volume set --state in-use"
	if v.Attached == 0 {
		f.Text, f.Remedy = fmt.Sprintf("is %s, but no attachment of it is attached", v.Status), "ask Nova whether a server has it (openstack server show); if none has, openstack volume set --state available --detached"
	}
	out.add(f)
}

func idle(m model.Idle, alive map[string]bool, o Options, out *list) {
	if o.Now.Sub(m.Since) < o.Stuck || m.Host != "" && !alive[m.Host] {
		return
	}
	f := model.Finding{Severity: model.SeverityWarning, Code: "idle", Kind: model.FindImage, ID: m.Image.String(), Node: m.Host, Repair: model.RepairRelease}
	f.Text = "is kept there, but nothing there needs it"
	if m.Host == "" {
		f.Text = "is kept, but nothing needs it"
	}
	out.add(f)
}

// initiators that two nodes have: a node is let in by its initiator's name.
func initiators(nodes []model.Node, out *list) {
	first := map[string]string{}
	for _, n := range nodes {
		if n.Initiator == "" {
			continue
		}
		name := strings.ToLower(n.Initiator)
		if other, ok := first[name]; ok {
			out.add(model.Finding{
				Severity: model.SeverityError, Code: "same-initiator", Kind: model.FindNode, ID: n.Host, Node: n.Host,
				Text:   fmt.Sprintf("has the same initiator name as %s: %s; each is let in as the other", other, n.Initiator),
				Remedy: "give one of them another in /etc/iscsi/initiatorname.iscsi, restart iscsid and the agent",
			})
			continue
		}
		first[name] = n.Host
	}
}

func numbers(c model.Census, out *list) {
	for _, s := range c.Shared {
		out.add(model.Finding{
			Severity: model.SeverityError, Code: "shared-thin", Kind: model.FindNode, ID: s.Host, Node: s.Host,
			Text:   fmt.Sprintf("thin device %d belongs to several: %s; what one writes the others read", s.ThinID, s.Rows),
			Remedy: "detach them, and copy what is to be kept to a new volume",
		})
	}
	for _, a := range c.Ahead {
		out.add(model.Finding{
			Severity: model.SeverityError, Code: "thin-numbers", Kind: model.FindNode, ID: a.Host, Node: a.Host, Repair: model.RepairNumbers,
			Text: fmt.Sprintf("its next thin number is %d, but %d is in use: a new volume would get another's data", a.Next, a.Used),
		})
	}
}

func usage(drifts []model.UsageDrift, out *list) {
	of := func(t *uuid.UUID) string {
		if t == nil {
			return ""
		}
		return " of type " + t.String()
	}
	for _, d := range drifts {
		var parts []string
		for _, x := range []struct {
			n    int64
			what string
		}{{d.Volumes, "volumes"}, {d.Snapshots, "snapshots"}, {d.GiB, "GiB"}, {d.Backups, "backups"}, {d.BackupGiB, "GiB of backups"}, {d.Groups, "groups"}} {
			if x.n != 0 {
				parts = append(parts, fmt.Sprintf("%+d %s", x.n, x.what))
			}
		}
		out.add(model.Finding{
			Severity: model.SeverityWarning, Code: "usage", Kind: model.FindProject, ID: d.Project, Repair: model.RepairUsage,
			Text: fmt.Sprintf("its usage%s does not count %s", of(d.Type), strings.Join(parts, ", ")),
		})
	}
}
