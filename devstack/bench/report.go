package bench

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is all that was measured in one run.
type Report struct {
	Machine  Machine    `json:"machine"`
	Started  time.Time  `json:"started"`
	Runs     int        `json:"runs"`
	Sections []*Section `json:"sections"`
}

// Section is one case.
type Section struct {
	Name    string  `json:"name"`
	Title   string  `json:"title"`
	Rows    []Row   `json:"rows"`
	Error   string  `json:"error,omitempty"`
	Seconds float64 `json:"seconds"`
}

// Row is one figure of one contestant.
type Row struct {
	What    string    `json:"what"`
	Who     string    `json:"who"` // "" is VMThunder; else the peer
	Unit    string    `json:"unit"`
	Samples []float64 `json:"samples"`
	Goal    *Goal     `json:"goal,omitempty"`
	// Note is what a reader must know: the cause of a miss, what a figure leaves out.
	Note string `json:"note,omitempty"`
}

// Goal bounds a row's median.
type Goal struct {
	AtMost  float64 `json:"at_most,omitempty"`
	AtLeast float64 `json:"at_least,omitempty"`
}

// AtMost is a goal.
func AtMost(v float64) *Goal { return &Goal{AtMost: v} }

// AtLeast is a goal.
func AtLeast(v float64) *Goal { return &Goal{AtLeast: v} }

func (g *Goal) String() string {
	switch {
	case g == nil:
		return ""
	case g.AtLeast != 0:
		return "≥ " + number(g.AtLeast)
	}
	return "≤ " + number(g.AtMost)
}

// Median of the samples; NaN without any.
func (r Row) Median() float64 { return Quantile(r.Samples, 0.5) }

// Met tells whether the goal was met; true without one.
func (r Row) Met() bool {
	m := r.Median()
	switch {
	case r.Goal == nil:
		return true
	case r.Goal.AtLeast != 0:
		return m >= r.Goal.AtLeast
	}
	return m <= r.Goal.AtMost
}

// String is the row in one line.
func (r Row) String() string {
	var b strings.Builder
	if r.Who != "" {
		b.WriteString(r.Who + ": ")
	}
	fmt.Fprintf(&b, "%s %s %s", r.What, number(r.Median()), r.Unit)
	if len(r.Samples) > 1 {
		fmt.Fprintf(&b, " (%s to %s, %d runs)", number(slices.Min(r.Samples)), number(slices.Max(r.Samples)), len(r.Samples))
	}
	if r.Goal != nil {
		fmt.Fprintf(&b, ", goal %s: %s", r.Goal, met(r.Met()))
	}
	return b.String()
}

func met(ok bool) string {
	if ok {
		return "met"
	}
	return "MISSED"
}

// Quantile q (0 to 1) of samples by linear interpolation; NaN without any.
func Quantile(samples []float64, q float64) float64 {
	if len(samples) == 0 {
		return math.NaN()
	}
	s := slices.Clone(samples)
	slices.Sort(s)
	at := q * float64(len(s)-1)
	i := int(at)
	if i+1 >= len(s) {
		return s[len(s)-1]
	}
	return s[i] + (at-float64(i))*(s[i+1]-s[i])
}

// number prints three significant digits, all before the point.
func number(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return "-"
	case a >= 100 || v == math.Trunc(v):
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 1:
		return fmt.Sprintf("%.2f", v)
	case a >= 0.1:
		return fmt.Sprintf("%.3f", v)
	}
	return fmt.Sprintf("%.2g", v)
}

// Missed counts rows that missed their goals.
func (r *Report) Missed() int {
	n := 0
	for _, s := range r.Sections {
		for _, row := range s.Rows {
			if !row.Met() {
				n++
			}
		}
	}
	return n
}

// WriteTable prints the report for a terminal.
func (r *Report) WriteTable(out io.Writer) error {
	fmt.Fprintf(out, "%s, %s\n", r.Machine, r.Started.Format("2006-01-02"))
	for _, s := range r.Sections {
		fmt.Fprintf(out, "\n%s: %s\n", s.Name, s.Title)
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintf(w, "  \twho\tmedian\tmin\tmax\tn\tgoal\t\n")
		var notes []string
		for _, row := range s.Rows {
			low, high := math.NaN(), math.NaN()
			if len(row.Samples) > 0 {
				low, high = slices.Min(row.Samples), slices.Max(row.Samples)
			}
			goal := ""
			if row.Goal != nil {
				goal = row.Goal.String() + " " + met(row.Met())
			}
			mark := ""
			if row.Note != "" {
				notes = append(notes, row.Note)
				mark = fmt.Sprintf(" [%d]", len(notes))
			}
			fmt.Fprintf(w, "  %s%s\t%s\t%s %s\t%s\t%s\t%d\t%s\t\n", row.What, mark, who(row), number(row.Median()), row.Unit,
				number(low), number(high), len(row.Samples), goal)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		for i, n := range notes {
			fmt.Fprintf(out, "  [%d] %s\n", i+1, n)
		}
		if s.Error != "" {
			fmt.Fprintf(out, "  FAILED: %s\n", s.Error)
		}
	}
	return nil
}

func who(r Row) string {
	if r.Who == "" {
		return "VMThunder"
	}
	return r.Who
}

// WriteMarkdown prints the report as README shows it.
func (r *Report) WriteMarkdown(out io.Writer) error {
	fmt.Fprintf(out, "%s, %s; medians, spread in parentheses.\n", r.Machine, r.Started.Format("2006-01-02"))
	for _, s := range r.Sections {
		fmt.Fprintf(out, "\n| %s | who | median | goal |\n|---|---|---|---|\n", s.Title)
		for _, row := range s.Rows {
			spread := ""
			if len(row.Samples) > 1 {
				spread = fmt.Sprintf(" (%s to %s)", number(slices.Min(row.Samples)), number(slices.Max(row.Samples)))
			}
			goal := ""
			if row.Goal != nil {
				goal = row.Goal.String() + ", " + met(row.Met())
			}
			what := row.What
			if row.Note != "" {
				what += ". " + row.Note
			}
			if _, err := fmt.Fprintf(out, "| %s | %s | %s %s%s | %s |\n", what, who(row), number(row.Median()), row.Unit, spread, goal); err != nil {
				return err
			}
		}
	}
	return nil
}

// WriteJSON writes the report with every sample.
func (r *Report) WriteJSON(path string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// Machine is where it was measured.
type Machine struct {
	CPU    string  `json:"cpu"`
	Cores  int     `json:"cores"`
	Memory float64 `json:"memory_gib"`
	Kernel string  `json:"kernel"`
}

func (m Machine) String() string {
	return fmt.Sprintf("%d × %s, %.0f GiB, Linux %s", m.Cores, m.CPU, m.Memory, m.Kernel)
}

func machine() Machine {
	m := Machine{Cores: runtime.NumCPU(), CPU: field("/proc/cpuinfo", "model name"), Kernel: "?"}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(b))
	}
	var kib float64
	if _, err := fmt.Sscanf(field("/proc/meminfo", "MemTotal"), "%f kB", &kib); err == nil {
		m.Memory = kib / (1 << 20)
	}
	return m
}

// field of a "name : value" file of /proc.
func field(path, name string) string {
	f, err := os.Open(path)
	if err != nil {
		return "?"
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if k, v, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(k) == name {
			return strings.TrimSpace(v)
		}
	}
	return "?"
}
