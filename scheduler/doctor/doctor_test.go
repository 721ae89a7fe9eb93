package doctor_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/scheduler/doctor"
)

//nolint:gochecknoglobals // the same in all tests
var (
	now     = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	options = doctor.Options{Now: now, Degree: 2, Stuck: 15 * time.Minute}
	long    = now.Add(-time.Hour)
	lately  = now.Add(-time.Minute)
)

func id(n int) uuid.UUID { return uuid.MustParse(fmt.Sprintf("00000000-0000-4000-8000-%012d", n)) }

//go:fix inline
func ptr[T any](v T) *T { return new(v) }

// brief is "severity code kind id@node repair", without what is empty.
func brief(fs []model.Finding) []string {
	out := []string{}
	for _, f := range fs {
		of := f.ID
		if u, err := uuid.Parse(f.ID); err == nil {
			of = strings.TrimLeft(u.String()[24:], "0")
		}
		if f.Node != "" && f.Node != f.ID {
			of += "@" + f.Node
		}
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s %s %s %s", f.Severity, f.Code, f.Kind, of, f.Repair)))
		if f.Text == "" {
			out = append(out, "a finding without a text")
		}
		if f.Severity != model.SeverityInfo && f.Remedy == "" && f.Repair == "" {
			out = append(out, f.Code+" leaves one alone: neither remedy nor repair")
		}
	}
	return out
}

func same(t *testing.T, got []model.Finding, want ...string) {
	t.Helper()
	if want == nil {
		want = []string{}
	}
	if b := brief(got); !slices.Equal(b, want) {
		t.Errorf("found %q, want %q\n%+v", b, want, got)
	}
}

// look at a node that is well: it holds a relay, a volume that is attached, one that is not, and a snapshot.
func look() doctor.Look {
	thin := func(n int64) *int64 { return &n }
	node := model.Node{
		Host: "n1", Alive: true, Enabled: true, Compute: true, LastSeen: &lately, Generation: 5, Applied: 5, PoolUUID: "pool", PoolState: "rw",
		PoolTotal: 1000, PoolFree: 500,
	}
	l := doctor.Look{
		State: model.NodeState{
			Node: node, Members: []model.Member{{ImageID: id(1), Host: "n1", Role: model.RoleRelay}},
			Volumes:   []model.Volume{{ID: id(11), ThinID: thin(21)}, {ID: id(12), ThinID: thin(22)}},
			Snapshots: []model.Snapshot{{ID: id(13), VolumeID: id(12), ThinID: thin(23)}},
		},
		Doc: model.Desired{
			Schema: 1, Host: "n1", Generation: 5, PoolUUID: "pool",
			Images: []model.DesiredImage{{ID: id(1).String(), Role: model.RoleRelay, State: model.Present, Parent: &model.ParentPortal{Host: "o1"}}},
			Volumes: []model.DesiredVolume{
				{ID: id(11).String(), State: model.Present, ThinID: 21, Materialized: true},
				{ID: id(12).String(), State: model.Inactive, ThinID: 22, Materialized: true},
				{ID: id(13).String(), State: model.Inactive, ThinID: 23, Materialized: true},
			},
		},
		Seen: &model.Observed{
			Schema: 1, Host: "n1", Generation: 5, Settled: true, Compute: true, Pool: model.ObservedPool{UUID: "pool", State: "rw", TotalBytes: 1000, FreeBytes: 500, MetadataTotal: 100, MetadataFree: 90},
			Images: []model.ObservedImage{{ID: id(1).String(), Role: model.RoleRelay, State: model.DeviceReady, Parent: "o1"}},
			Volumes: []model.ObservedVolume{
				{ID: id(11).String(), State: model.DeviceReady, Materialized: true}, {ID: id(12).String(), State: model.DeviceInactive, Materialized: true},
				{ID: id(13).String(), State: model.DeviceInactive, Materialized: true},
			},
		},
		Pool:    &doctor.Pool{Thins: model.Thins{PoolUUID: "pool", Thins: []model.Thin{{ID: 21}, {ID: 22}, {ID: 23}, {ID: 30}, {ID: 31}}}},
		Volumes: 2, Attached: 1,
	}
	st := model.Storage{
		PoolUUID: "pool", Volumes: []model.Managed{{ID: id(11), ThinID: 21}, {ID: id(12), ThinID: 22}}, Snapshots: []model.Managed{{ID: id(13), ThinID: 23}},
		Others: []int64{30}, Unmanaged: []model.Unmanaged{{ID: id(14), ThinID: thin(31)}},
	}
	l.Pool.Before, l.Pool.After = st, st
	return l
}

func TestNode(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(l *doctor.Look)
		want  []string
	}{
		"well":                    {func(*doctor.Look) {}, nil},
		"down":                    {func(l *doctor.Look) { l.State.Node.Alive = false }, []string{"error down node n1"}},
		"down, and holds nothing": {func(l *doctor.Look) { l.State.Node.Alive, l.Volumes = false, 0 }, []string{"warning down node n1"}},
		"down, a root": {func(l *doctor.Look) {
			l.State.Node.Alive, l.Volumes, l.State.Members[0].Role = false, 0, model.RoleRoot
		}, []string{"error down node n1"}},
		"taken away": {func(l *doctor.Look) {
			l.State.Node.Alive, l.State.Node.Enabled, l.Volumes, l.State.Snapshots = false, false, 0, nil
		}, []string{"info down node n1"}},
		"mute": {func(l *doctor.Look) { l.Seen, l.Why = nil, "no consumer" }, []string{"error no-answer node n1"}},
		"old":  {func(l *doctor.Look) { l.Seen, l.Old = nil, true }, []string{"info agent-old node n1"}},
		"old, and ill": {func(l *doctor.Look) {
			l.Seen, l.Old = nil, true
			l.State.Node.Applied, l.State.Node.PoolState, l.State.Node.Problems = 4, "ro", model.JSON(`["no cache"]`)
		}, []string{"info agent-old node n1", "warning problem node n1", "error pool node n1", "warning unsettled node n1 document"}},
		"schema": {func(l *doctor.Look) { l.Seen.Schema = 2 }, []string{"error schema node n1"}},
		// What follows from an older document says nothing.
		"behind": {func(l *doctor.Look) { l.Seen.Generation, l.Seen.Volumes = 4, nil }, []string{"error behind node n1 document"}},
		"ahead":  {func(l *doctor.Look) { l.Seen.Generation, l.Seen.Volumes = 6, nil }, []string{"error ahead node n1"}},
		"busy": {func(l *doctor.Look) {
			l.Seen.Generation, l.Seen.Volumes, l.Busy, l.Seen.Unknown = 4, nil, true, []string{"device x"}
		}, []string{"info busy node n1", "warning unknown-thing node n1"}},
		"at work":           {func(l *doctor.Look) { l.Seen.Settled = false }, []string{"warning unsettled node n1 document"}},
		"at work, said why": {func(l *doctor.Look) { l.Seen.Settled, l.Seen.Volumes[0].State = false, model.DeviceBuilding }, []string{"warning not-ready volume 11@n1 document"}},
		"unknown":           {func(l *doctor.Look) { l.Seen.Unknown = []string{"device vmthunder-x", "target y"} }, []string{"warning unknown-thing node n1", "warning unknown-thing node n1"}},
		"problem":           {func(l *doctor.Look) { l.Seen.Problems = []string{"image store: no such directory"} }, []string{"warning problem node n1"}},
		"volume in error":   {func(l *doctor.Look) { l.Seen.Volumes[0].State = model.DeviceError }, []string{"error not-ready volume 11@n1"}},
		"volume missing":    {func(l *doctor.Look) { l.Seen.Volumes[0].State = model.DeviceInactive }, []string{"error missing volume 11@n1 document"}},
		"volume stands":     {func(l *doctor.Look) { l.Seen.Volumes[1].State = model.DeviceReady }, []string{"warning stands volume 12@n1 document"}},
		"volume let in":     {func(l *doctor.Look) { l.Seen.Volumes[0].Exported, l.Seen.Volumes[0].Hosts = true, []string{"iqn.x"} }, []string{"error exported volume 11@n1 document", "error intruder volume 11@n1 document"}},
		"snapshot not gone": {func(l *doctor.Look) { l.Doc.Volumes[2].State = model.Absent }, []string{"warning not-gone snapshot 13@n1 document"}},
		"path lost":         {func(l *doctor.Look) { l.Seen.Images[0].State = model.DevicePathLost }, []string{"error not-ready image 1@n1 tree"}},
		"importing":         {func(l *doctor.Look) { l.Seen.Settled, l.Seen.Images[0].State = false, model.DeviceImporting }, []string{"info not-ready image 1@n1"}},
		"at the fallback": {func(l *doctor.Look) {
			l.Doc.Images[0].Alternates, l.Seen.Images[0].Parent = []model.ParentPortal{{Host: "n2"}}, "n2"
		}, []string{"warning fallback image 1@n1 document"}},
		"at another":       {func(l *doctor.Look) { l.Seen.Images[0].Parent = "n9" }, []string{"error parent image 1@n1 document"}},
		"pool read-only":   {func(l *doctor.Look) { l.Seen.Pool.State = "ro" }, []string{"error pool node n1"}},
		"pool exchanged":   {func(l *doctor.Look) { l.Seen.Pool.UUID, l.Pool.Thins = "other", model.Thins{PoolUUID: "other"} }, []string{"error other-pool node n1"}},
		"pool full":        {func(l *doctor.Look) { l.Seen.Pool.FreeBytes = 100 }, []string{"warning pool-full node n1"}},
		"pool nearly full": {func(l *doctor.Look) { l.Seen.Pool.FreeBytes = 101 }, nil},
		"metadata full":    {func(l *doctor.Look) { l.Seen.Pool.MetadataFree = 10 }, []string{"warning metadata-full node n1"}},
		"pool unseen":      {func(l *doctor.Look) { l.Pool, l.PoolWhy = nil, "timeout" }, []string{"warning pool-unseen node n1"}},
		"unknown thin": {func(l *doctor.Look) {
			l.Pool.Thins.Thins = append(l.Pool.Thins.Thins, model.Thin{ID: 99, MappedBytes: 5 << 20})
		}, []string{"warning unknown-thin node n1"}},
		"thin just made": {func(l *doctor.Look) {
			l.Pool.Thins.Thins = append(l.Pool.Thins.Thins, model.Thin{ID: 99})
			l.Pool.After.Others = []int64{99}
		}, nil},
		"thin just dropped":  {func(l *doctor.Look) { l.Pool.After.Others = nil }, nil},
		"thin lost":          {func(l *doctor.Look) { l.Pool.Thins.Thins = l.Pool.Thins.Thins[1:] }, []string{"error data-lost volume 11@n1"}},
		"snapshot's is lost": {func(l *doctor.Look) { l.Pool.Thins.Thins = slices.Delete(l.Pool.Thins.Thins, 2, 3) }, []string{"error data-lost snapshot 13@n1"}},
		"volume just gone": {func(l *doctor.Look) {
			l.Pool.Thins.Thins, l.Pool.After.Volumes = l.Pool.Thins.Thins[1:], l.Pool.After.Volumes[1:]
		}, nil},
		"volume moved": {func(l *doctor.Look) {
			l.Pool.Thins.Thins, l.Pool.After.Volumes = l.Pool.Thins.Thins[1:], []model.Managed{{ID: id(11), ThinID: 77}, {ID: id(12), ThinID: 22}}
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			l := look()
			c.spoil(&l)
			same(t, doctor.Node(l, options), c.want...)
		})
	}
}

// Many thin devices that nothing knows are not many lines.
func TestManyUnknownThins(t *testing.T) {
	l := look()
	for i := range 100 {
		l.Pool.Thins.Thins = append(l.Pool.Thins.Thins, model.Thin{ID: uint32(1000 + i)})
	}
	fs := doctor.Node(l, options)
	if len(fs) != 21 || !strings.HasPrefix(fs[20].Text, "80 more") {
		t.Errorf("%d findings, the last is %+v", len(fs), fs[len(fs)-1])
	}
}

// A node is judged at once when what it lacks does not come by waiting.
func TestAtRest(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(l *doctor.Look)
		want  bool
	}{
		"well":     {func(*doctor.Look) {}, true},
		"behind":   {func(l *doctor.Look) { l.Seen.Generation = 4 }, false},
		"building": {func(l *doctor.Look) { l.Seen.Volumes[0].State = model.DeviceBuilding }, false},
		"error":    {func(l *doctor.Look) { l.Seen.Volumes[0].State, l.Seen.Settled = model.DeviceError, false }, true},
		"import":   {func(l *doctor.Look) { l.Seen.Images[0].State, l.Seen.Settled = model.DeviceImporting, false }, true},
		"unknown":  {func(l *doctor.Look) { l.Seen.Unknown, l.Seen.Problems = []string{"x"}, []string{"y"} }, true},
	} {
		l := look()
		c.spoil(&l)
		if got := doctor.AtRest(l.Doc, *l.Seen); got != c.want {
			t.Errorf("%s: at rest: %t", name, got)
		}
	}
}

func TestTree(t *testing.T) {
	type forest struct {
		image   model.Image
		members []model.Member
		nodes   map[string]model.Node
		imports bool
	}
	well := func() forest {
		relay := func(host, parent, fallback string, depth, children int) model.Member {
			m := model.Member{ImageID: id(1), Host: host, Role: model.RoleRelay, State: model.MemberActive, Parent: &parent, Depth: depth, Children: children, UpdatedAt: long}
			if fallback != "" {
				m.Fallback = &fallback
			}
			return m
		}
		f := forest{image: model.Image{ID: id(1), Status: model.ImageActive}, nodes: map[string]model.Node{}, members: []model.Member{
			{ImageID: id(1), Host: "o1", Role: model.RoleRoot, State: model.MemberActive, Children: 2, UpdatedAt: long},
			relay("n1", "o1", "", 1, 1), relay("n2", "o1", "n1", 1, 0), relay("n3", "n1", "n2", 2, 0),
		}}
		for _, m := range f.members {
			f.nodes[m.Host] = model.Node{Host: m.Host, Alive: true}
		}
		return f
	}
	dies := func(hosts ...string) func(f *forest) {
		return func(f *forest) {
			for _, h := range hosts {
				f.nodes[h] = model.Node{Host: h}
			}
		}
	}
	for name, c := range map[string]struct {
		spoil func(f *forest)
		want  []string
	}{
		"well":             {func(*forest) {}, nil},
		"children":         {func(f *forest) { f.members[1].Children = 3 }, []string{"error tree image 1 tree"}},
		"depth":            {func(f *forest) { f.members[3].Depth = 7 }, []string{"error tree image 1 tree"}},
		"degree":           {func(f *forest) { f.image.Degree = ptr(1) }, []string{"error tree image 1 tree"}},
		"fallback":         {func(f *forest) { f.members[3].Fallback = ptr("n9") }, []string{"warning fallback image 1 tree"}},
		"root down":        {dies("o1"), []string{"error roots-down image 1"}},
		"root gone":        {func(f *forest) { f.members[0].State = model.MemberLeaving }, []string{"error no-root image 1", "error tree image 1 tree", "error tree image 1 tree", "warning member-stuck image 1@o1 document"}},
		"relay down":       {dies("n1"), []string{"error parent-down image 1@n3 tree"}},
		"leaf down":        {dies("n3"), nil},
		"draining":         {func(f *forest) { f.members[3].State, f.members[3].UpdatedAt = model.MemberDraining, lately }, nil},
		"draining long":    {func(f *forest) { f.members[3].State = model.MemberDraining }, []string{"warning member-stuck image 1@n3 document"}},
		"leaving, down":    {func(f *forest) { f.members[3].State = model.MemberLeaving; dies("n3")(f) }, nil},
		"importing":        {func(f *forest) { f.image.Status, f.imports = model.ImageImporting, true }, nil},
		"imported by none": {func(f *forest) { f.image.Status = model.ImageQueued; f.members = nil }, []string{"error no-import image 1 import"}},
		"failed": {func(f *forest) {
			f.image.Status, f.image.Error = model.ImageError, ptr("bad checksum")
			f.members = nil
		}, []string{"warning import-failed image 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := well()
			c.spoil(&f)
			same(t, doctor.Tree(f.image, f.members, f.nodes, f.imports, options), c.want...)
		})
	}
}

func TestRows(t *testing.T) {
	up := []model.Node{{Host: "n1", Alive: true, Initiator: "iqn.1"}, {Host: "n2", Initiator: "iqn.2"}}
	c1 := model.Service{Host: "c1", Binary: "vmthunder-api", LastSeen: now}
	job := func(spoil func(j *model.Job)) model.Census {
		j := model.Job{Kind: model.JobImportImage, Subject: id(1).String(), RunAt: lately.Add(30 * time.Second)}
		spoil(&j)
		return model.Census{Services: []model.Service{c1}, Jobs: []model.Job{j}}
	}
	task := func(spoil func(k *model.Task)) model.Census {
		k := model.Task{ID: id(9), Kind: model.TaskUploadImage, Status: model.TaskRunning, Host: "n1", VolumeID: id(8), UpdatedAt: long}
		spoil(&k)
		return model.Census{Nodes: up, Tasks: []model.Task{k}}
	}
	for name, c := range map[string]struct {
		census model.Census
		want   []string
	}{
		"nothing": {model.Census{Nodes: up, Services: []model.Service{c1}, Leases: []model.Lease{{Name: "watch-nodes", ExpiresAt: now}}}, nil},
		"replica": {model.Census{Services: []model.Service{{Host: "c2", LastSeen: long}}}, []string{"info replica-silent control-plane c2"}},
		"lease":   {model.Census{Leases: []model.Lease{{Name: "watch-nodes", ExpiresAt: lately}}}, []string{"error nobody-leads control-plane watch-nodes"}},

		"job due":  {job(func(*model.Job) {}), nil},
		"job late": {job(func(j *model.Job) { j.RunAt = long }), []string{"error job-late job import-image " + id(1).String()}},
		"job taken": {job(func(j *model.Job) {
			j.RunAt, j.TakenBy, j.TakenUntil = long, ptr("c1/vmthunder-api"), ptr(now.Add(time.Second))
		}), nil},
		"job orphan": {job(func(j *model.Job) {
			j.RunAt, j.TakenBy, j.TakenUntil = long, ptr("c9/vmthunder-api"), ptr(now.Add(time.Second))
		}), []string{"info job-orphan job import-image " + id(1).String()}},
		"job lease over": {job(func(j *model.Job) {
			j.RunAt, j.TakenBy, j.TakenUntil = long, ptr("c1/vmthunder-api"), ptr(lately.Add(50*time.Second))
		}), nil},
		"job fails":   {job(func(j *model.Job) { j.Attempts, j.Error = 5, ptr("no route") }), []string{"warning job-fails job import-image " + id(1).String()}},
		"job waits":   {job(func(j *model.Job) { j.Attempts, j.Error = 500, ptr("not yet") }), nil},
		"job unknown": {job(func(j *model.Job) { j.Kind = "dance" }), []string{"error job-unknown job dance " + id(1).String()}},

		"task":                  {task(func(k *model.Task) { k.UpdatedAt = lately }), nil},
		"task silent":           {task(func(*model.Task) {}), []string{"warning task task 9@n1 document"}},
		"task in error":         {task(func(k *model.Task) { k.Error = ptr("no store") }), []string{"warning task task 9@n1"}},
		"task queued":           {task(func(k *model.Task) { k.Status = model.TaskQueued }), []string{"error task task 9@n1"}},
		"task's node":           {task(func(k *model.Task) { k.Host, k.UpdatedAt = "n2", lately }), []string{"warning task task 9@n2"}},
		"task remains":          {task(func(k *model.Task) { k.Status = model.TaskFailed }), []string{"warning task task 9@n1 document"}},
		"task ended":            {task(func(k *model.Task) { k.Status, k.UpdatedAt = model.TaskFailed, lately }), nil},
		"task ended, node down": {task(func(k *model.Task) { k.Status, k.Host = model.TaskFailed, "n2" }), nil},

		"in use by nobody": {model.Census{Crooked: []model.Crooked{{ID: id(8), Status: model.VolumeInUse, Since: long}}}, []string{"warning attachments volume 8"}},
		"somebody has it":  {model.Census{Crooked: []model.Crooked{{ID: id(8), Status: model.VolumeAvailable, Attached: 1, Since: long}}}, []string{"warning attachments volume 8"}},
		"idle":             {model.Census{Nodes: up, Idle: []model.Idle{{Image: id(1), Host: "n1", Since: long}, {Image: id(1), Since: long}}}, []string{"warning idle image 1@n1 release", "warning idle image 1 release"}},
		"idle, lately":     {model.Census{Nodes: up, Idle: []model.Idle{{Image: id(1), Host: "n1", Since: lately}}}, nil},
		"idle, down":       {model.Census{Nodes: up, Idle: []model.Idle{{Image: id(1), Host: "n2", Since: long}}}, nil},
		"cloned":           {model.Census{Nodes: []model.Node{{Host: "a", Initiator: "x"}, {Host: "b", Initiator: "X"}, {Host: "c"}, {Host: "d"}}}, []string{"error same-initiator node b"}},
		"shared":           {model.Census{Shared: []model.SharedThin{{Host: "n1", ThinID: 3, Rows: "volume a, snapshot b"}}}, []string{"error shared-thin node n1"}},
		"ahead":            {model.Census{Ahead: []model.ThinsAhead{{Host: "n1", Next: 3, Used: 3}}}, []string{"error thin-numbers node n1 numbers"}},
		"usage":            {model.Census{Usage: []model.UsageDrift{{Project: "p", Volumes: 1, GiB: -2}}}, []string{"warning usage project p usage"}},
	} {
		t.Run(name, func(t *testing.T) { same(t, doctor.Rows(c.census, options), c.want...) })
	}
}

// What is passing, and for how long, and what becomes of it.
func TestPassing(t *testing.T) {
	n1, n2 := ptr("n1"), ptr("n2")
	volume := func(s model.VolumeStatus, spoil ...func(p *model.Passing)) model.Passing {
		p := model.Passing{Kind: model.FindVolume, ID: id(8), Status: string(s), Since: long}
		for _, f := range spoil {
			f(&p)
		}
		return p
	}
	at := func(h *string) func(p *model.Passing) { return func(p *model.Passing) { p.Home = h } }
	tasks := func(s string) func(p *model.Passing) { return func(p *model.Passing) { p.Tasks = s } }
	image := func(s model.ImageStatus) func(p *model.Passing) { return func(p *model.Passing) { p.ImageStatus = s } }
	parts := func(p *model.Passing) { p.Parts = 2 }
	copying := func(p *model.Passing) { p.Copying = true }
	moving := func(p *model.Passing) { p.Migration = "migrating" }
	other := func(k model.FindingKind, s string, spoil ...func(p *model.Passing)) model.Passing {
		p := volume(model.VolumeStatus(s), spoil...)
		p.Kind, p.Volume = k, ptr(id(7))
		return p
	}
	const (
		ends  = "error stuck volume 8 status"
		waits = "warning stuck volume 8@n1 document"
		down  = "info stuck volume 8@n2"
		hand  = "warning stuck volume 8"
	)
	for name, c := range map[string]struct {
		p    model.Passing
		want string // "": nothing
		end  string // "": it does not end
	}{
		"lately":              {volume(model.VolumeDeleting, func(p *model.Passing) { p.Since = lately }), "", "gone"},
		"creating":            {volume(model.VolumeCreating), ends, "error"},
		"creating, a copy":    {volume(model.VolumeCreating, at(n1), copying), waits, ""},
		"copied":              {volume(model.VolumeCreating, at(n1)), waits, ""},
		"a copy, node down":   {volume(model.VolumeCreating, at(n2), copying), down, ""},
		"creating, restored":  {volume(model.VolumeCreating, tasks("restore-backup")), "", ""},
		"creating, importing": {volume(model.VolumeCreating, image(model.ImageImporting)), "", ""},
		"downloading":         {volume(model.VolumeDownloading, image(model.ImageQueued)), "", ""},
		"downloaded":          {volume(model.VolumeDownloading, image(model.ImageActive)), ends, "as attached"},
		"downloaded, a copy":  {volume(model.VolumeDownloading, image(model.ImageActive), at(n1), copying), waits, ""},
		"download failed":     {volume(model.VolumeDownloading, image(model.ImageError)), ends, "error"},
		"attaching":           {volume(model.VolumeAttaching, at(n1)), "warning stuck volume 8@n1", ""},
		"detaching":           {volume(model.VolumeDetaching, at(n2)), "warning stuck volume 8@n2", ""},
		"extending":           {volume(model.VolumeExtending, at(n1)), waits, ""},
		"extending, no home":  {volume(model.VolumeExtending), ends, "as attached"},
		"uploading":           {volume(model.VolumeUploading, at(n1), tasks("upload-image")), "", ""},
		"uploaded by none":    {volume(model.VolumeUploading, at(n1), tasks("create-backup")), "error stuck volume 8@n1 status", "as attached"},
		"backing up":          {volume(model.VolumeBackingUp, tasks("create-backup,upload-image")), "", ""},
		"backed up by none":   {volume(model.VolumeBackingUp), ends, "as attached"},
		"restoring":           {volume(model.VolumeRestoringBackup, tasks("restore-backup")), "", ""},
		"restored by none":    {volume(model.VolumeRestoringBackup), ends, "error_restoring"},
		"moving":              {volume(model.VolumeMaintenance, moving, tasks("migrate,serve")), "", ""},
		"moved by none":       {volume(model.VolumeMaintenance, moving), ends, "as attached"},
		"maintained":          {volume(model.VolumeMaintenance), hand, ""},
		"deleting":            {volume(model.VolumeDeleting, at(n1)), waits, ""},
		"deleting, snapshots": {volume(model.VolumeDeleting, parts), hand, ""},
		"deleting, nowhere":   {volume(model.VolumeDeleting), ends, "gone"},
		"unmanaging":          {volume(model.VolumeUnmanaging, at(n1)), waits, ""},
		"unmanaging, nowhere": {volume(model.VolumeUnmanaging), ends, "gone"},
		"reverting":           {volume(model.VolumeReverting, at(n1), copying), waits, ""},
		"retyping":            {volume(model.VolumeRetyping), hand, ""},

		"snapshot creating":   {other(model.FindSnapshot, "creating", at(n1)), "warning stuck snapshot 8@n1 document", ""},
		"snapshot deleting":   {other(model.FindSnapshot, "deleting", at(n1)), "warning stuck snapshot 8@n1 document", ""},
		"snapshot nowhere":    {other(model.FindSnapshot, "deleting"), "error stuck snapshot 8 status", "gone"},
		"snapshot restoring":  {other(model.FindSnapshot, "restoring", at(n1), parts), "", ""},
		"snapshot restored":   {other(model.FindSnapshot, "restoring", at(n1)), "error stuck snapshot 8@n1 status", "available"},
		"snapshot backing up": {other(model.FindSnapshot, "backing-up", tasks("create-backup")), "", ""},
		"snapshot backed up":  {other(model.FindSnapshot, "backing-up"), "error stuck snapshot 8 status", "available"},

		"backup":           {other(model.FindBackup, "creating", tasks("create-backup")), "", ""},
		"backup creating":  {other(model.FindBackup, "creating"), "error stuck backup 8 status", "error"},
		"backup deleting":  {other(model.FindBackup, "deleting"), "error stuck backup 8 status", "error_deleting"},
		"backup restoring": {other(model.FindBackup, "restoring"), "error stuck backup 8 status", "available"},

		"group":              {other(model.FindGroup, "creating", parts), "", ""},
		"group of nothing":   {other(model.FindGroup, "deleting"), "warning stuck group 8", ""},
		"snapshots of group": {other(model.FindGroupSnapshot, "creating"), "warning stuck group-snapshot 8", ""},
	} {
		t.Run(name, func(t *testing.T) {
			var want []string
			if c.want != "" {
				want = []string{c.want}
			}
			same(t, doctor.Rows(model.Census{Nodes: []model.Node{{Host: "n1", Alive: true}, {Host: "n2"}}, Passing: []model.Passing{c.p}}, options), want...)
			e, ok := doctor.End(c.p)
			got := e.To
			if e.Gone {
				got = "gone"
			}
			if e.ByAttachments {
				got = "as attached"
			}
			if !ok {
				got = ""
			}
			if got != c.end {
				t.Errorf("it ends as %q, want %q", got, c.end)
			}
		})
	}
}

func TestSortAndFilter(t *testing.T) {
	fs := []model.Finding{
		{Severity: model.SeverityInfo, Kind: model.FindNode, ID: "n1", Node: "n1"},
		{Severity: model.SeverityWarning, Kind: model.FindVolume, ID: "v", Node: "n2"},
		{Severity: model.SeverityError, Kind: model.FindImage, ID: "i", Node: "n2"},
		{Severity: model.SeverityError, Kind: model.FindImage, ID: "i", Node: "n1"},
		{Severity: model.SeverityWarning, Kind: model.FindSnapshot, ID: "s", Node: "n2", Volume: "v"},
		{Severity: model.SeverityError, Kind: model.FindImage, ID: "i", Node: "n1"},
	}
	ids := func(fs []model.Finding) string {
		var out []string
		for _, f := range fs {
			out = append(out, f.ID+"@"+f.Node)
		}
		return strings.Join(out, " ")
	}
	if got := ids(doctor.Sort(slices.Clone(fs))); got != "i@n1 i@n2 s@n2 v@n2 n1@n1" {
		t.Error(got)
	}
	for want, c := range map[string]model.Checkup{
		"n1@n1 i@n1 i@n1": {Node: "n1"}, "i@n2 i@n1 i@n1": {Image: "i"}, "v@n2 s@n2": {Volume: "v"}, "i@n2": {Image: "i", Node: "n2"},
	} {
		if got := ids(doctor.Filter(fs, c)); got != want {
			t.Errorf("%+v: %s, want %s", c, got, want)
		}
	}
}

// Each repair is done once, and documents last.
func TestRepairs(t *testing.T) {
	fs := []model.Finding{
		{Kind: model.FindVolume, ID: "v1", Node: "n1", Repair: model.RepairDocument}, {Kind: model.FindVolume, ID: "v2", Node: "n1", Repair: model.RepairDocument},
		{Kind: model.FindVolume, ID: "v3"}, {Kind: model.FindImage, ID: "i", Node: "n2", Repair: model.RepairTree}, {Kind: model.FindImage, ID: "i", Repair: model.RepairTree},
		{Kind: model.FindBackup, ID: "b", Repair: model.RepairStatus}, {Kind: model.FindNode, ID: "n3", Node: "n3", Repair: model.RepairNumbers},
	}
	want := []doctor.Job{
		{model.RepairNumbers, model.FindNode, "n3"}, {model.RepairTree, model.FindImage, "i"}, {model.RepairStatus, model.FindBackup, "b"},
		{model.RepairDocument, model.FindNode, "n1"},
	}
	if got := doctor.Repairs(fs); !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}

func TestAgo(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0 s", 40 * time.Second: "40 s", 12 * time.Minute: "12 min", 3 * time.Hour: "3 h", 5 * 24 * time.Hour: "5 d",
	} {
		if got := doctor.Ago(d); got != want {
			t.Errorf("%s: %s", d, got)
		}
	}
}
