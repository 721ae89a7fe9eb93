package db_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/db"
	"github.com/vmthunder/vmthunder/db/dbtest"
)

// planned is a statement as the server has run it: auto_explain's report (PostgreSQL
// manual, F.4), which stands in the server's log.
type planned struct {
	Query string   `json:"Query Text"`
	Plan  planNode `json:"Plan"`
}

type planNode struct {
	Type     string     `json:"Node Type"`
	Relation string     `json:"Relation Name"`
	Index    string     `json:"Index Name"`
	Rows     float64    `json:"Actual Rows"`
	Loops    float64    `json:"Actual Loops"`
	Removed  float64    `json:"Rows Removed by Filter"`
	Plans    []planNode `json:"Plans"`
}

// big tables grow with what users do. The others hold what an operator has made: types,
// images, services.
func bigTable(name string) bool {
	return slices.Contains([]string{
		"volumes", "attachments", "snapshots", "messages", "tree_members", "jobs", "usage_changes", "thin_numbers", "nodes",
		"volume_groups", "group_snapshots",
	}, name)
}

// looked counts the rows of big tables that a statement has looked at, and names those
// that it has read from one end to the other.
func (p *planned) looked() (rows float64, whole []string) {
	var walk func(n *planNode)
	walk = func(n *planNode) {
		if bigTable(n.Relation) && n.Loops > 0 {
			rows += (n.Rows + n.Removed) * n.Loops
			if n.Type == "Seq Scan" {
				whole = append(whole, n.Relation)
			}
		}
		for i := range n.Plans {
			walk(&n.Plans[i])
		}
	}
	walk(&p.Plan)
	return rows, whole
}

func (p *planned) String() string {
	var b strings.Builder
	query := strings.Join(strings.Fields(p.Query), " ")
	if from := strings.Index(query, " FROM "); strings.HasPrefix(query, "SELECT ") && from > 100 {
		query = "SELECT …" + query[from:] // all columns
	}
	fmt.Fprintln(&b, query)
	var walk func(n *planNode, indent string)
	walk = func(n *planNode, indent string) {
		if n.Loops == 0 {
			return
		}
		fmt.Fprintf(&b, "%s%s", indent, n.Type)
		if n.Index != "" {
			fmt.Fprintf(&b, " by %s", n.Index)
		}
		if n.Relation != "" {
			fmt.Fprintf(&b, " of %s", n.Relation)
		}
		fmt.Fprintf(&b, ": %.0f rows", n.Rows*n.Loops)
		if n.Removed > 0 {
			fmt.Fprintf(&b, ", %.0f passed over", n.Removed*n.Loops)
		}
		b.WriteByte('\n')
		for i := range n.Plans {
			walk(&n.Plans[i], indent+"  ")
		}
	}
	walk(&p.Plan, "  ")
	return b.String()
}

// planner is a store on a server of its own that reports every plan.
type planner struct {
	*world
	log string
	at  int64 // what of it has been read
}

func newPlanner(t *testing.T) *planner {
	t.Helper()
	t.Parallel()
	server := dbtest.NewServer(t)
	database := server.Database(t)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	open := func(settings url.Values) (*db.Store, error) {
		return db.Open(ctx, database+"?"+settings.Encode(), db.Options{MaxOpen: 1, QuotaDefaults: map[string]int64{
			"volumes": -1, "gigabytes": -1, "snapshots": -1, "groups": -1,
		}})
	}
	store, err := open(url.Values{
		"session_preload_libraries": {"auto_explain"}, "auto_explain.log_min_duration": {"0"}, "auto_explain.log_analyze": {"on"},
		"auto_explain.log_timing": {"off"}, "auto_explain.log_format": {"json"}, "auto_explain.log_nested_statements": {"on"},
	})
	if err != nil && strings.Contains(err.Error(), "auto_explain") {
		t.Skipf("this PostgreSQL has no auto_explain, which its contrib package brings: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return &planner{world: &world{store, t, ctx}, log: filepath.Join(server.Dir, "log")}
}

// plans returns what do has had the server run.
func (p *planner) plans(do func() error) []planned {
	p.t.Helper()
	p.must(p.Ping(p.ctx)) // the log holds all before it
	p.read()
	p.must(do())
	p.must(p.Ping(p.ctx))
	var out []planned
	for _, report := range strings.Split(p.read(), "  plan:\n")[1:] {
		var text strings.Builder
		for line := range strings.Lines(report) {
			if !strings.HasPrefix(line, "\t") {
				break
			}
			text.WriteString(line)
		}
		var one planned
		if err := json.Unmarshal([]byte(text.String()), &one); err != nil {
			p.t.Fatalf("a plan in the server's log: %v\n%s", err, report)
		}
		if one.Query != "SELECT 1" { // the pings
			out = append(out, one)
		}
	}
	return out
}

// read what has been added to the log.
func (p *planner) read() string {
	p.t.Helper()
	f, err := os.Open(p.log)
	p.must(err)
	defer f.Close()
	_, err = f.Seek(p.at, io.SeekStart)
	p.must(err)
	b, err := io.ReadAll(f)
	p.must(err)
	p.at += int64(len(b))
	return string(b)
}

// looks has do look at so many rows at most, and at no big table as a whole unless whole.
func (p *planner) looks(what string, most int, whole bool, do func() error) {
	p.t.Helper()
	all := p.plans(do)
	if len(all) == 0 {
		p.t.Errorf("%s: no plan was reported", what)
	}
	var sum float64
	for i := range all {
		rows, seq := all[i].looked()
		sum += rows
		if len(seq) > 0 && !whole {
			p.t.Errorf("%s reads all of %v:\n%s", what, seq, &all[i])
		}
	}
	if sum > float64(most) {
		p.t.Errorf("%s looks at %.0f rows, more than %d:\n%s", what, sum, most, text(all))
	}
	if testing.Verbose() {
		p.t.Logf("%s looks at %.0f rows:\n%s", what, sum, text(all))
	}
}

func text(all []planned) string {
	var b strings.Builder
	for i := range all {
		b.WriteString(all[i].String())
	}
	return b.String()
}
