package doctor

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler/reconcile"
)

// Look is what is known of one node.
type Look struct {
	State model.NodeState // as the database has it
	Doc   model.Desired   // that follows from it
	// Seen is what the node sees now; nil: it did not say. Then Why says why, and Old that its agent is of
	// a version that can't be asked.
	Seen *model.Observed
	Why  string
	Old  bool
	// Busy: it went on taking documents while it was looked at, and was not caught between two.
	Busy bool
	// Pool is nil if it was not looked into; then PoolWhy says why, "" if there was no reason to.
	Pool    *Pool
	PoolWhy string
	// Volumes that live there, and those of them that somebody has.
	Volumes, Attached int
}

// Pool is what a node has in its thin pool, and what the database knew of it before and after that was
// looked at: what comes or goes meanwhile is in one of them.
type Pool struct {
	Thins         model.Thins
	Before, After model.Storage
}

// fullAt is the share of a pool that is used, in percent, from which on that is said.
const fullAt = 90

// Node tells what is wrong with a node.
func Node(l Look, o Options) []model.Finding {
	var out list
	n := l.State.Node
	about := func(s model.Severity, code, text, remedy string, r model.Repair) {
		out.add(model.Finding{Severity: s, Code: code, Kind: model.FindNode, ID: n.Host, Node: n.Host, Text: text, Remedy: remedy, Repair: r})
	}
	switch {
	case !n.Alive:
		silent(l, o, about)
		return out
	case l.Seen == nil && l.Old:
		about(model.SeverityInfo, "agent-old", "its agent is of an older version and can't be asked what stands; only what it reported is looked at", "upgrade it", "")
		reported(n, about)
	case l.Seen == nil:
		about(model.SeverityError, "no-answer", fmt.Sprintf("it reported %s ago, but does not answer: %s", since(n.LastSeen, o), l.Why),
			"see the logs of its agent and of RabbitMQ", "")
		reported(n, about)
	case l.Seen.Schema != model.DesiredSchema:
		about(model.SeverityError, "schema", fmt.Sprintf("its agent speaks schema %d, this control plane %d", l.Seen.Schema, model.DesiredSchema), "upgrade the older side", "")
		return out
	default:
		seen(l, &out)
	}
	full(l, about)
	thins(l, &out)
	return out
}

type sayer func(s model.Severity, code, text, remedy string, r model.Repair)

func since(t *time.Time, o Options) string {
	if t == nil {
		return "never"
	}
	return Ago(o.Now.Sub(*t))
}

// silent is a node that counts as dead.
func silent(l Look, o Options, about sayer) {
	n := l.State.Node
	text := "it has never reported"
	if n.LastSeen != nil {
		text = "it has been silent for " + since(n.LastSeen, o)
	}
	roots := 0
	for _, m := range l.State.Members {
		if m.Role == model.RoleRoot {
			roots++
		}
	}
	tasks := 0
	for _, k := range l.State.Tasks {
		if !k.Ended() {
			tasks++
		}
	}
	severity := model.SeverityWarning
	if l.Volumes > 0 || roots > 0 {
		severity = model.SeverityError
		text += fmt.Sprintf("; it holds %s, %d of them attached, and %s", count(l.Volumes, "volume"), l.Attached, count(roots, "image"))
	} else if !n.Enabled && len(l.State.Snapshots)+tasks == 0 {
		severity = model.SeverityInfo
	}
	if tasks > 0 {
		text += "; " + count(tasks, "task") + " it had begun"
	}
	about(severity, "down", text, "start the host and its agent; what is to change there waits", "")
}

// reported is what a node's row says of it, where it could not be asked.
func reported(n model.Node, about sayer) {
	var problems []string
	if json.Unmarshal(n.Problems, &problems) == nil {
		for _, p := range problems {
			about(model.SeverityWarning, string(reconcile.CodeProblem), p, "see its agent's log", "")
		}
	}
	if n.Compute && n.PoolState != "rw" {
		about(model.SeverityError, string(reconcile.CodePool), fmt.Sprintf("its pool is %q", n.PoolState), poolRemedy(n.PoolState, n.Host), "")
	}
	if n.Applied < n.Generation {
		about(model.SeverityWarning, string(reconcile.CodeUnsettled), fmt.Sprintf("has done generation %d of %d", n.Applied, n.Generation), "see its agent's log", model.RepairDocument)
	}
}

// seen compares what stands with what should.
func seen(l Look, out *list) {
	diff := reconcile.Diff(l.Doc, *l.Seen)
	is := func(c reconcile.Code) func(reconcile.Finding) bool {
		return func(f reconcile.Finding) bool { return f.Code == c }
	}
	host := l.State.Node.Host
	if l.Busy {
		out.add(model.Finding{
			Severity: model.SeverityInfo, Code: "busy", Kind: model.FindNode, ID: host, Node: host,
			Text: "what should stand there changed all the time that it was looked at, so what stands could not be compared", Remedy: "look again when less is going on",
		})
	}
	// What follows from an older document is no finding of its own. Where something has yet to be done,
	// that says more than that something has.
	behind := l.Busy || slices.ContainsFunc(diff, is(reconcile.CodeBehind)) || slices.ContainsFunc(diff, is(reconcile.CodeAhead))
	explained := slices.ContainsFunc(diff, func(f reconcile.Finding) bool { return f.Kind != "node" })
	for _, f := range diff {
		switch {
		case behind && f.Kind != "node", f.Code == reconcile.CodeUnsettled && (explained || l.Busy):
			continue
		case l.Busy && (f.Code == reconcile.CodeBehind || f.Code == reconcile.CodeAhead):
			continue
		}
		r := ruleOf(f, host, l.Seen)
		g := model.Finding{Severity: r.severity, Code: string(f.Code), Kind: model.FindNode, ID: f.ID, Node: host, Text: f.Text, Remedy: r.remedy, Repair: r.repair}
		switch f.Kind {
		case "image":
			g.Kind = model.FindImage
		case "volume":
			g.Kind, g.Volume = kindOf(l.State, f.ID)
		}
		out.add(g)
	}
}

// kindOf is what a document calls a volume, and the volume that it belongs to.
func kindOf(s model.NodeState, id string) (model.FindingKind, string) {
	for i := range s.Snapshots {
		if s.Snapshots[i].ID.String() == id {
			return model.FindSnapshot, s.Snapshots[i].VolumeID.String()
		}
	}
	for i := range s.Tasks {
		if s.Tasks[i].ID.String() == id {
			return model.FindTask, s.Tasks[i].VolumeID.String()
		}
	}
	return model.FindVolume, ""
}

type rule struct {
	severity model.Severity
	remedy   string
	repair   model.Repair
}

// ruleOf says how bad a difference is and what is done about it.
func ruleOf(f reconcile.Finding, host string, o *model.Observed) rule {
	const (
		logs  = "see its agent's log"
		again = "the agent goes on trying; its log says what is in the way"
	)
	switch f.Code {
	case reconcile.CodeHost:
		return rule{model.SeverityError, "two agents have the same [DEFAULT] host: give one of them another", ""}
	case reconcile.CodeBehind:
		return rule{model.SeverityError, logs, model.RepairDocument}
	case reconcile.CodeAhead:
		return rule{model.SeverityError, "the database is older than what the node was told: if it was restored, look at the unknown things first, then restart the node's agent", ""}
	case reconcile.CodeOtherPool:
		return rule{model.SeverityError, "put the disk back that its volumes are on; or, if that is lost, vmthunder node forget-pool " + host, ""}
	case reconcile.CodePool:
		return rule{model.SeverityError, poolRemedy(o.Pool.State, host), ""}
	case reconcile.CodeUnknown:
		return rule{model.SeverityWarning, "it may hold data, so nothing removes it by itself: look whose it was, and take it down by hand", ""}
	case reconcile.CodeProblem:
		return rule{model.SeverityWarning, logs, ""}
	case reconcile.CodeNotReady:
		switch f.State {
		case model.DeviceImporting:
			return rule{model.SeverityInfo, "", ""}
		case model.DevicePathLost:
			return rule{model.SeverityError, "reads wait until it has a parent: see that the parent lives and can be reached", model.RepairTree}
		case model.DeviceError:
			return rule{model.SeverityError, "trying again as it is does not help: do what the reason says", ""}
		case model.DeviceBuilding, model.DeviceAbsent, model.DeviceInactive, model.DeviceReady:
		}
		return rule{model.SeverityWarning, again, model.RepairDocument}
	case reconcile.CodeDataLost:
		return rule{model.SeverityError, "what was written is gone from the pool: restore it from a backup", ""}
	case reconcile.CodeCacheLost:
		return rule{model.SeverityInfo, "it fills again with what is read", ""}
	case reconcile.CodeMissing, reconcile.CodeRole, reconcile.CodeNotExported, reconcile.CodeNotLetIn, reconcile.CodeParent:
		return rule{model.SeverityError, again, model.RepairDocument}
	case reconcile.CodeExported, reconcile.CodeIntruder:
		return rule{model.SeverityError, "who is let in can read what it should not: " + again, model.RepairDocument}
	case reconcile.CodeStands:
		return rule{model.SeverityWarning, "something on the node has it open: " + again, model.RepairDocument}
	case reconcile.CodeUnsettled, reconcile.CodeNotGone, reconcile.CodeSize, reconcile.CodeFallback, reconcile.CodeNotCopied, reconcile.CodeNoRow:
	}
	return rule{model.SeverityWarning, again, model.RepairDocument}
}

func poolRemedy(state, host string) string {
	switch state {
	case "out_of_data_space":
		return "writes wait: give the pool's disk more space, or delete volumes there"
	case "ro", "fail":
		return "the kernel has stopped writing to it: stop the agent, thin_check and thin_repair its metadata, restart the host"
	case "foreign":
		return "the disk holds something else: put the right one back; or, if that is lost, vmthunder node forget-pool " + host
	}
	return "see [node] pool_device and its agent's log"
}

// full looks at the room in the pool.
func full(l Look, about sayer) {
	n := l.State.Node
	total, free := n.PoolTotal, n.PoolFree
	if l.Seen != nil {
		p := l.Seen.Pool
		total, free = p.TotalBytes, p.FreeBytes
		if p.MetadataTotal > 0 && (p.MetadataTotal-p.MetadataFree)*100 >= p.MetadataTotal*fullAt {
			about(model.SeverityWarning, "metadata-full", fmt.Sprintf("%d %% of its pool's metadata are used; at 100 it becomes read-only", (p.MetadataTotal-p.MetadataFree)*100/p.MetadataTotal),
				"delete volumes and snapshots there, or give the pool a larger disk", "")
		}
	}
	if total > 0 && (total-free)*100 >= total*fullAt {
		about(model.SeverityWarning, "pool-full", fmt.Sprintf("%d %% of its pool are used; at 100 writes wait", (total-free)*100/total), "give the pool's disk more space, or delete volumes there", "")
	}
}

// shownThins bounds the findings about thin devices that nothing knows.
const shownThins = 20

// thins compares the pool with the rows.
func thins(l Look, out *list) {
	host := l.State.Node.Host
	about := model.Finding{Severity: model.SeverityWarning, Kind: model.FindNode, ID: host, Node: host}
	if l.Pool == nil {
		if l.PoolWhy != "" {
			about.Code, about.Text, about.Remedy = "pool-unseen", "its pool could not be looked into: "+l.PoolWhy, "see its agent's log"
			out.add(about)
		}
		return
	}
	p := l.Pool
	if p.Thins.PoolUUID != p.After.PoolUUID || p.Before.PoolUUID != p.After.PoolUUID {
		return // its volumes are in another, which is said already
	}
	known := map[int64]bool{}
	for _, s := range []model.Storage{p.Before, p.After} {
		for _, m := range slices.Concat(s.Volumes, s.Snapshots) {
			known[m.ThinID] = true
		}
		for _, n := range s.Others {
			known[n] = true
		}
		for _, u := range s.Unmanaged {
			if u.ThinID != nil {
				known[*u.ThinID] = true
			}
		}
	}
	there, unknown := map[uint32]bool{}, 0
	for _, t := range p.Thins.Thins {
		there[t.ID] = true
		if known[int64(t.ID)] {
			continue
		}
		if unknown++; unknown > shownThins {
			continue
		}
		about.Code, about.Text = "unknown-thin", fmt.Sprintf("thin device %d in its pool belongs to nothing; it takes %s", t.ID, size(t.MappedBytes))
		about.Remedy = "it may hold data, so nothing removes it by itself: cinder manageable-list shows it, and it can be managed as a volume"
		out.add(about)
	}
	if unknown > shownThins {
		about.Code, about.Text = "unknown-thin", fmt.Sprintf("%d more such thin devices in its pool", unknown-shownThins)
		out.add(about)
	}
	lostThins(l, there, out)
}

// lostThins are those that were made and are not in the pool any more.
func lostThins(l Look, there map[uint32]bool, out *list) {
	still := map[string]int64{}
	for _, m := range slices.Concat(l.Pool.After.Volumes, l.Pool.After.Snapshots) {
		still[m.ID.String()] = m.ThinID
	}
	for _, v := range l.Doc.Volumes {
		if !v.Materialized || v.State == model.Absent || there[v.ThinID] || still[v.ID] != int64(v.ThinID) {
			continue
		}
		kind, volume := kindOf(l.State, v.ID)
		out.add(model.Finding{
			Severity: model.SeverityError, Code: string(reconcile.CodeDataLost), Kind: kind, ID: v.ID, Node: l.State.Node.Host, Volume: volume,
			Text:   fmt.Sprintf("its data was made before, but thin device %d is not in the pool", v.ThinID),
			Remedy: "what was written is gone from the pool: restore it from a backup",
		})
	}
}

// size in binary units.
func size(n int64) string {
	for _, u := range []string{"B", "KiB", "MiB", "GiB"} {
		if n < 1024 {
			return fmt.Sprintf("%d %s", n, u)
		}
		n /= 1024
	}
	return fmt.Sprintf("%d TiB", n)
}

// AtRest tells whether there is nothing to wait for before a node is judged: it has taken its document,
// and what it lacks or has too much of will not change by itself.
func AtRest(d model.Desired, o model.Observed) bool {
	for _, f := range reconcile.Diff(d, o) {
		switch f.Code {
		case reconcile.CodeUnknown, reconcile.CodeProblem, reconcile.CodePool, reconcile.CodeOtherPool, reconcile.CodeHost, reconcile.CodeCacheLost:
		case reconcile.CodeUnsettled:
			// Whatever is not done shows by itself; an import takes as long as it takes.
		default:
			if f.Code == reconcile.CodeNotReady && (f.State == model.DeviceImporting || f.State == model.DeviceError) {
				continue
			}
			return false
		}
	}
	return true
}
