package goldentest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Replay makes the calls at a service, in order: the ids of later calls are those that
// earlier answers had.
type Replay struct {
	// URL of the service without a path, http://host:port.
	URL string
	// Project whose id stands in the paths.
	Project string
	// Do sends a request with its tokens. serviceToken is false for calls that were made
	// without one.
	Do func(r *http.Request, serviceToken bool) (*http.Response, error)
	// Names are the recording's names of hosts, and ids of images and types that stood
	// before, each followed by what it is here; longer ones first.
	Names []string
	// Other are differences of this service, besides those in differences.go.
	Other []Difference
	// Strict calls a difference wrong that is none any more.
	Strict bool
	// Settle, if not nil, is called after every call that may change something and returns
	// when what it has set going is done.
	Settle func(c Call) error

	ids         *ids
	differences map[int]Difference
}

// Outcome of a call.
type Outcome string

// Outcomes.
const (
	Same       Outcome = "as Cinder"
	Deliberate Outcome = "different on purpose"
	NotYet     Outcome = "not served yet"
	Wrong      Outcome = "wrong"
)

// Call makes a call. The problems are those that make it wrong.
func (r *Replay) Call(c Call) (Outcome, []string, error) {
	if r.ids == nil {
		r.ids = newIDs(r.Names)
		r.ids.put(Project, r.Project)
		r.ids.put("http://"+Host, r.URL)
		r.differences = byCall(append(differences(), r.Other...))
	}
	d, different := r.differences[c.N]
	if d.Omit {
		return NotYet, nil, nil
	}
	a, err := r.send(c)
	if err == nil && r.Settle != nil && c.Method != http.MethodGet {
		err = r.Settle(c)
	}
	if err != nil {
		return Wrong, nil, fmt.Errorf("%s: %w", c, err)
	}
	plain := r.check(c, a, Difference{})
	switch {
	case len(plain) == 0 && different && r.Strict:
		return Wrong, []string{fmt.Sprintf("it is as Cinder's now: take it from the differences (%s)", d.Reason)}, nil
	case len(plain) == 0:
		return Same, nil, nil
	case !different:
		return Wrong, plain, nil
	}
	if problems := r.check(c, a, d); len(problems) > 0 {
		return Wrong, problems, nil
	}
	if d.NotYet {
		return NotYet, nil, nil
	}
	return Deliberate, nil, nil
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (r *Replay) send(c Call) (answer, error) {
	path := r.ids.replace(c.url(Project))
	var body io.Reader
	if b := r.ids.replace(string(c.Body)); b != "" && b != "null" {
		body = strings.NewReader(b)
	}
	req, err := http.NewRequest(c.Method, r.URL+path, body) //nolint:noctx // Do has its own limit
	if err != nil {
		return answer{}, err
	}
	req.Header.Set("Accept", "application/json")
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.Version != "" {
		req.Header.Set("OpenStack-API-Version", "volume "+c.Version)
	}
	resp, err := r.Do(req, c.Label != "nosvc")
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return answer{status: resp.StatusCode, header: resp.Header, body: b}, err
}

// check compares an answer with Cinder's, but for d.
func (r *Replay) check(c Call, a answer, d Difference) (problems []string) {
	problem := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if id := a.header.Get("X-Openstack-Request-Id"); id == "" || id != a.header.Get("X-Compute-Request-Id") {
		problem("request ids: %q and %q", id, a.header.Get("X-Compute-Request-Id"))
	}
	switch {
	case d.Status == http.StatusFound:
		if at := a.header.Get("Location"); a.status != d.Status || at != r.URL+"/v3/" {
			problem("status %d, Location %q", a.status, at)
		}
		return problems
	case d.Status != 0:
		if a.status != d.Status {
			problem("status %d, want %d (%s); body %.300s", a.status, d.Status, d.Reason, a.body)
		} else if a.status >= http.StatusMultipleChoices && !fault(a) {
			problem("not a fault: %.300s", a.body)
		}
		return problems
	case a.status != c.Status:
		problem("status %d, Cinder's %d; body %.300s; Cinder's %.300s", a.status, c.Status, a.body, c.Answer)
		return problems
	}
	if got := a.header.Get("Content-Type"); got != c.Type && !d.Type {
		problem("content type %q, Cinder's %q", got, c.Type)
	}
	if strings.HasPrefix(c.url(Project), "/v3/"+Project+"/") && a.status != http.StatusNotAcceptable {
		want := c.Version
		if want == "" {
			want = "3.0"
		}
		if got := a.header.Get("OpenStack-API-Version"); got != "volume "+want || a.header.Get("Vary") != "OpenStack-API-Version" {
			problem("version header %q, Vary %q", got, a.header.Get("Vary"))
		}
	}
	if c.Answer == "" {
		if len(a.body) != 0 {
			problem("body %.300s, Cinder's is empty", a.body)
		}
		return problems
	}
	want, err := decode([]byte(r.ids.replace(c.Answer)))
	if err != nil {
		problem("Cinder's answer: %v", err)
		return problems
	}
	have, err := decode(a.body)
	if err != nil {
		problem("body %.300s: %v", a.body, err)
		return problems
	}
	r.ids.learn(want, have)
	m := comparison{ids: r.ids, skip: d.Skip}
	m.compare("", want, have)
	return append(problems, m.problems...)
}

func decode(b []byte) (v any, err error) {
	err = json.Unmarshal(b, &v)
	return v, err
}

// fault says whether the body is an OpenStack fault of the answer's status.
func fault(a answer) bool {
	var f map[string]struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}
	if err := json.Unmarshal(a.body, &f); err != nil || len(f) != 1 {
		return false
	}
	for _, x := range f {
		if x.Code != a.status || x.Message == "" {
			return false
		}
	}
	return true
}
