package bench

import (
	"context"
	"fmt"
	"strings"
)

var growth = Case{Name: "growth", Title: "Lists and creates against the number of volumes", Run: runGrowth}

const (
	growthProjects = 9   // other projects that have as many volumes together as the asking one
	growthCreates  = 40  // per size
	growthAsks     = 15  // per size and kind of list
	growthPage     = 100 // of lists that not every size has 1,000 rows for
)

// growthSizes are the asking project's volumes; others have as many again.
func growthSizes() []int { return []int{100, 1_000, 10_000, 100_000} }

// growthBase is the size that the largest is compared with: the first that fills a page.
const growthBase = 1_000

// growthKind is something that is asked at every size.
type growthKind struct {
	what string
	path string // with MARKER where the marker goes
	rows int    // of the answer where there are enough
	why  string // it takes longer with more of them, "" if it should not
}

func growthKinds() []growthKind {
	return []growthKind{
		{"first page of 1,000", "/volumes/detail?limit=1000", 1000, ""},
		{"page of 100 behind a marker at nine tenths of all", "/volumes/detail?limit=100&marker=MARKER", 100, ""},
		{"page of 100 of one status (a tenth of all has it)", "/volumes/detail?limit=100&status=error", 100, ""},
		{"the one of a name", "/volumes/detail?limit=1000&name=copy-50", 1, ""},
		{"first page of 1,000 of all projects", "/volumes/detail?limit=1000&all_tenants=1", 1000, ""},
		{"first page of 1,000 with the count of all", "/volumes/detail?limit=1000&with_count=true", 1000, "Postgres counts the project's rows, in their index, one by one"},
	}
}

// growthFigures are medians in milliseconds, by what was asked, for each size in order.
type growthFigures map[string][]float64

func runGrowth(ctx context.Context, b *Bench) (err error) {
	s, err := newSite(ctx, b, "bench-growth", alone)
	if err != nil {
		return err
	}
	defer func() { err = s.close(ctx, err) }()
	figures := growthFigures{}
	for i, size := range growthSizes() {
		before := 0
		if i > 0 {
			before = growthSizes()[i-1]
		}
		b.Progress("with %d volumes in the project and as many in others", size)
		if err := s.grow(ctx, before, size); err != nil {
			return err
		}
		if err := s.growthAsk(ctx, size, figures); err != nil {
			return err
		}
	}
	for _, what := range growthOrder() {
		row := growthRow(what, figures[what])
		for _, k := range growthKinds() {
			if k.what == what && k.why != "" && !row.Met() {
				row.Note += "; " + k.why
			}
		}
		b.Add(row)
	}
	return nil
}

func growthOrder() []string {
	order := []string{growthCreate}
	for _, k := range growthKinds() {
		order = append(order, k.what)
	}
	return order
}

const growthCreate = "create of a blank volume"

// growthRow compares the largest size with the base, and names all in the note.
func growthRow(what string, medians []float64) Row {
	r := Row{What: what + ": with 100,000 volumes ÷ with 1,000", Unit: "×", Goal: AtMost(1.5)}
	var base float64
	var parts []string
	for i, size := range growthSizes() {
		if i >= len(medians) {
			return r
		}
		if size == growthBase {
			base = medians[i]
		}
		parts = append(parts, fmt.Sprintf("%d: %s", size, number(medians[i])))
	}
	r.Samples = []float64{medians[len(medians)-1] / base}
	r.Note = "medians in ms: " + strings.Join(parts, ", ")
	return r
}

// grow brings the asking project from so many volumes to so many, and the others together
// to as many, by SQL.
func (s *site) grow(ctx context.Context, from, to int) error {
	if from == 0 {
		id, err := s.ours.create(ctx, "seed", "")
		if err != nil {
			return err
		}
		if err := s.ours.available(ctx, []string{id}, availableLimit); err != nil {
			return err
		}
		from = 1
	}
	db, err := s.database(s.ours)
	if err != nil {
		return err
	}
	defer db.Close()
	var seed string
	if err := db.QueryRowContext(ctx, "SELECT id FROM volumes WHERE name = 'seed'").Scan(&seed); err != nil {
		return err
	}
	// Names go on where they ended, so that there is one copy-50.
	if err := s.copiesFrom(ctx, s.ours, seed, from, to-1, s.ours.project); err != nil {
		return err
	}
	for i := range growthProjects {
		first, last := share(from, to, i, growthProjects)
		if err := s.copiesFrom(ctx, s.ours, seed, first, last, fmt.Sprintf("%032x", i+1)); err != nil {
			return err
		}
	}
	return s.run(ctx, s.ours,
		"UPDATE volumes SET status = 'error' WHERE status = 'available' AND name ~ '7$'", // every tenth
		"VACUUM ANALYZE volumes", "VACUUM ANALYZE usage_changes")
}

// share of the numbers from first up to, not including, last that part i of n has; both
// ends inclusive.
func share(first, last, i, n int) (from, to int) {
	all := last - first
	return first + all*i/n, first + all*(i+1)/n - 1
}

// growthAsk measures everything at one size.
func (s *site) growthAsk(ctx context.Context, size int, figures growthFigures) error {
	var marker string
	db, err := s.database(s.ours)
	if err != nil {
		return err
	}
	defer db.Close()
	err = db.QueryRowContext(ctx, "SELECT id FROM volumes WHERE project_id = $1 ORDER BY created_at DESC, id DESC OFFSET $2 LIMIT 1",
		s.ours.project, size*9/10-1).Scan(&marker)
	if err != nil {
		return err
	}
	for _, k := range growthKinds() {
		path := strings.Replace(k.path, "MARKER", marker, 1)
		if size >= growthBase {
			if err := s.ours.listed(ctx, path, k.rows); err != nil {
				return err
			}
		}
		t, err := load(ctx, growthAsks, 1, func(ctx context.Context, _ int) error { return s.ours.get(ctx, path) })
		if err != nil {
			return err
		}
		figures[k.what] = append(figures[k.what], Quantile(t.each, 0.5))
	}
	t, err := load(ctx, growthCreates, 1, func(ctx context.Context, _ int) error {
		_, err := s.ours.create(ctx, "new", "")
		return err
	})
	if err != nil {
		return err
	}
	figures[growthCreate] = append(figures[growthCreate], Quantile(t.each, 0.5))
	return s.run(ctx, s.ours, "DELETE FROM volumes WHERE name = 'new'")
}
