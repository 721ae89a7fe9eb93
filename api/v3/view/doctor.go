package view

import (
	"time"

	"github.com/vmthunder/vmthunder/db/model"
)

// Diagnosis is the answer of GET and POST /vmthunder/doctor.
type Diagnosis struct {
	At       time.Time `json:"at"`
	Findings []Finding `json:"findings"` // the worst first; after a repair those that are left
	Mended   []Mended  `json:"mended"`
	Looked   Looked    `json:"looked"`
}

// Finding is one thing that is wrong, or good to know.
type Finding struct {
	Severity string `json:"severity"` // error, warning, info; info is nothing wrong
	Code     string `json:"code"`     // which finding it is, in words that stay the same
	Kind     string `json:"kind"`     // node, image, volume, snapshot, backup, group, group-snapshot, task, job, project, control-plane
	ID       string `json:"id"`       // of that; a node's host
	Node     string `json:"node"`     // where; "": it is about no node
	Volume   string `json:"volume"`   // that a snapshot, backup or task belongs to
	Text     string `json:"text"`
	Remedy   string `json:"remedy"` // what to do
	Repair   string `json:"repair"` // what a repair does about it; "": nothing
}

// Mended is one repair.
type Mended struct {
	Repair string `json:"repair"`
	Of     string `json:"of"`
	Text   string `json:"text"`
	Error  string `json:"error"` // why it could not be done
}

// Looked is what was looked at.
type Looked struct {
	Nodes     int `json:"nodes"`
	Answered  int `json:"answered"` // of the nodes that were asked
	Images    int `json:"images"`
	Volumes   int `json:"volumes"`
	Snapshots int `json:"snapshots"`
	// The node that has been silent for longest; last_seen is null if it has never reported.
	OldestNode string     `json:"oldest_node"`
	OldestSeen *time.Time `json:"oldest_seen"`
	Cut        []string   `json:"cut"` // lists that were too long to be looked at as a whole
}

// OperatorDiagnosis makes the answer.
func OperatorDiagnosis(d *model.Diagnosis) Diagnosis {
	out := Diagnosis{
		At: d.At, Findings: []Finding{}, Mended: []Mended{},
		Looked: Looked{
			Nodes: d.Nodes, Answered: d.Answered, Images: d.Images, Volumes: d.Volumes, Snapshots: d.Snapshots,
			OldestNode: d.OldestHost, OldestSeen: d.Oldest, Cut: append([]string{}, d.More...),
		},
	}
	for _, f := range d.Findings {
		out.Findings = append(out.Findings, Finding{
			Severity: string(f.Severity), Code: f.Code, Kind: string(f.Kind), ID: f.ID, Node: f.Node, Volume: f.Volume,
			Text: f.Text, Remedy: f.Remedy, Repair: string(f.Repair),
		})
	}
	for _, m := range d.Mended {
		out.Mended = append(out.Mended, Mended{Repair: string(m.Repair), Of: m.Of, Text: m.Text, Error: m.Error})
	}
	return out
}
