package bench

import (
	"context"
	"fmt"
	"strings"
)

var rates = Case{Name: "rates", Title: "Requests per second, 16 clients; a list of 1,000 volumes", Run: runRates}

const (
	ratesClients = 16
	ratesRows    = 1_000
)

// ratesWork is how much each contestant is given of one kind of request: enough for a
// second or two of work.
type ratesWork struct{ creates, shows, lists int }

func runRates(ctx context.Context, b *Bench) (err error) {
	s, err := newSite(ctx, b, "bench-rates", withPeer)
	if err != nil {
		return err
	}
	defer func() { err = s.close(ctx, err) }()
	work := []ratesWork{{creates: 800, shows: 6000, lists: 10}, {creates: 32, shows: 200, lists: 3}}
	figures := make([]ratesFigures, 2)
	var contestants []func(context.Context) (float64, error)
	for i, of := range s.both() {
		contestants = append(contestants, func(ctx context.Context) (float64, error) {
			return 0, s.rates(ctx, of, work[i], &figures[i])
		})
	}
	_, err = InTurn(ctx, b.Runs, contestants...)
	for i, of := range s.both() {
		for _, r := range figures[i].rows(of.who) {
			b.Add(r)
		}
	}
	if s.peer != nil {
		for _, r := range against(figures[0], figures[1]) {
			b.Add(r)
		}
	}
	return err
}

// ratesFigures of one contestant, a sample per run.
type ratesFigures struct {
	creates, createP99, shows, showP99, list []float64
}

func (f ratesFigures) rows(who string) []Row {
	return []Row{
		{What: "creates of blank volumes", Who: who, Unit: "/s", Samples: f.creates},
		{What: "a create, 99th percentile", Who: who, Unit: "ms", Samples: f.createP99},
		{What: "shows", Who: who, Unit: "/s", Samples: f.shows},
		{What: "a show, 99th percentile", Who: who, Unit: "ms", Samples: f.showP99},
		{What: "a list of 1,000 volumes in detail, one client", Who: who, Unit: "ms", Samples: f.list},
	}
}

// against compares run by run, which were made one after the other.
func against(ours, peer ratesFigures) []Row {
	ratio := func(a, b []float64) []float64 {
		out := make([]float64, min(len(a), len(b)))
		for i := range out {
			out[i] = a[i] / b[i]
		}
		return out
	}
	vs := " against " + cinderName
	return []Row{
		{What: "creates" + vs, Unit: "×", Samples: ratio(ours.creates, peer.creates), Goal: AtLeast(50)},
		{What: "shows" + vs, Unit: "×", Samples: ratio(ours.shows, peer.shows), Goal: AtLeast(30)},
		{What: "lists of 1,000" + vs, Unit: "×", Samples: ratio(peer.list, ours.list), Goal: AtLeast(30)},
	}
}

// rates is one turn of a contestant, which begins without volumes and ends with 1,000.
func (s *site) rates(ctx context.Context, of *service, work ratesWork, f *ratesFigures) error {
	if err := s.wipe(ctx, of); err != nil {
		return err
	}
	ids := make([]string, work.creates)
	t, err := load(ctx, work.creates, ratesClients, func(ctx context.Context, i int) (err error) {
		ids[i], err = of.create(ctx, fmt.Sprintf("v-%d", i+1), "")
		return err
	})
	if err != nil {
		return err
	}
	f.creates, f.createP99 = append(f.creates, t.perSecond()), append(f.createP99, Quantile(t.each, 0.99))
	if err := of.available(ctx, ids, availableLimit); err != nil {
		return err
	}
	t, err = load(ctx, work.shows, ratesClients, func(ctx context.Context, i int) error { return of.get(ctx, "/volumes/"+ids[i%len(ids)]) })
	if err != nil {
		return err
	}
	f.shows, f.showP99 = append(f.shows, t.perSecond()), append(f.showP99, Quantile(t.each, 0.99))

	if err := s.copies(ctx, of, ids[0], ratesRows-len(ids), of.project); err != nil {
		return err
	}
	if err := of.listed(ctx, "/volumes/detail?limit=1000", ratesRows); err != nil {
		return err
	}
	t, err = load(ctx, work.lists, 1, func(ctx context.Context, _ int) error { return of.get(ctx, "/volumes/detail?limit=1000") })
	if err != nil {
		return err
	}
	f.list = append(f.list, Quantile(t.each, 0.5))
	return nil
}

// listed tells whether a list has as many rows as it should.
func (s *service) listed(ctx context.Context, path string, want int) error {
	var out struct{ Volumes []struct{ ID string } }
	if err := s.do(ctx, "GET", path, nil, &out); err != nil {
		return err
	}
	if len(out.Volumes) != want {
		return fmt.Errorf("%s lists %d volumes, want %d", path, len(out.Volumes), want)
	}
	return nil
}

// copies puts n rows into a contestant's database that are like the volume's but for id,
// project, name and time.
func (s *site) copies(ctx context.Context, of *service, volume string, n int, project string) error {
	if err := s.copiesFrom(ctx, of, volume, 1, n, project); err != nil {
		return err
	}
	return s.run(ctx, of, "VACUUM ANALYZE volumes")
}

// copiesFrom is copies with names from copy-FIRST to copy-LAST.
func (s *site) copiesFrom(ctx context.Context, of *service, volume string, first, last int, project string) error {
	db, err := s.database(of)
	if err != nil {
		return err
	}
	defer db.Close()
	rows, err := db.QueryContext(ctx, "SELECT column_name FROM information_schema.columns WHERE table_name = 'volumes' ORDER BY ordinal_position")
	if err != nil {
		return err
	}
	defer rows.Close()
	var columns []string
	for rows.Next() {
		var c string
		if err := rows.Scan(&c); err != nil {
			return err
		}
		columns = append(columns, c)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	values := make([]string, len(columns))
	for i, c := range columns {
		values[i] = "v." + c
		switch c {
		case "id":
			values[i] = "gen_random_uuid()"
			if of == s.peer { // text, not uuid
				values[i] += "::text"
			}
		case "project_id":
			values[i] = "$2"
		case "name", "display_name":
			values[i] = "'copy-' || n"
		case "created_at":
			values[i] += " - n * interval '1 second'"
		}
	}
	_, err = db.ExecContext(ctx, "INSERT INTO volumes ("+strings.Join(columns, ", ")+") SELECT "+strings.Join(values, ", ")+
		" FROM volumes v, generate_series($3::int, $4::int) n WHERE v.id::text = $1", volume, project, first, last)
	if err != nil {
		return fmt.Errorf("copies of volume %s: %w", volume, err)
	}
	return nil
}
