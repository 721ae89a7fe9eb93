package v3

import (
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/microversion"
	"github.com/vmthunder/vmthunder/api/v3/schema"
	"github.com/vmthunder/vmthunder/db/model"
)

// notFilters are keys of a query that are no filters.
func notFilter(key string) bool {
	return slices.Contains([]string{"limit", "marker", "offset", "sort", "sort_key", "sort_dir", "all_tenants"}, key)
}

// firstOf is the microversion from which on a key is a filter; before, it means nothing.
// Times came with 3.60 by Cinder's documents; by its code they are read from 3.31 on.
func firstOf(key string) microversion.Version {
	switch key {
	case "glance_metadata":
		return 4
	case "group_id":
		return 10
	case "created_at", "updated_at":
		return 31
	}
	return 0
}

// filterRules of a resource.
type filterRules struct {
	allowed []string // to everybody
	// columns that can be filtered by, as API name → column; more than everybody may.
	columns map[string]string
	admin   bool
	counted bool // the list has with_count
	mv      microversion.Version
	// node finds the host of HOST@BACKEND#POOL; errNothing if there is none. nil: any backend will do.
	node func(name string) (host string, err error)
}

// parse reads the filters of a query. nothing = true: no row can match (an administrator
// asked for a column that does not exist). Rules: before 3.31 what is not allowed is dropped,
// from then on it is a 400; name~=x (contains) from 3.34 on, for users if the operator lists name~.
func (r filterRules) parse(q url.Values) (filters []model.Filter, nothing bool, err error) {
	var refused []string
	keys := make([]string, 0, len(q))
	for k := range q {
		if !notFilter(k) && r.mv >= firstOf(k) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, key := range keys {
		name, op := key, "="
		if base, like := strings.CutSuffix(key, "~"); like && r.mv >= 34 {
			name, op = base, "like"
		}
		if !r.admin && !r.allows(name, op) {
			if r.mv >= 31 {
				refused = append(refused, key)
			}
			continue
		}
		column, known := r.columns[name]
		if !known {
			nothing = true
			continue
		}
		f, err := r.filter(column, op, q.Get(key))
		if errors.Is(err, errNothing) {
			nothing = true
			continue
		}
		if err != nil {
			return nil, false, err
		}
		filters = append(filters, f...)
	}
	if len(refused) > 0 {
		return nil, false, fault.BadRequest("Invalid filters %s are found in query options.", strings.Join(refused, ","))
	}
	return filters, nothing, nil
}

// allows: a filter by part of a value is listed as such, and is one by the whole value too.
func (r filterRules) allows(name, op string) bool {
	return op != "like" && slices.Contains(r.allowed, name) || r.mv >= 34 && slices.Contains(r.allowed, name+"~")
}

// nodeNamed is the node of filters by host.
func (a *API) nodeNamed(c *call) func(string) (string, error) {
	return func(name string) (string, error) {
		nodes, err := a.Store.Nodes(c.ctx())
		if err != nil {
			return "", err
		}
		if n := a.Backend.NodeOf(name, nodes); n != nil {
			return n.Host, nil
		}
		return "", errNothing
	}
}

// errNothing: the value is of a kind that no row has.
var errNothing = errors.New("nothing matches")

func (r filterRules) filter(column, op, value string) ([]model.Filter, error) {
	switch column {
	case "metadata", "image_metadata", "extra_specs":
		m, ok := parseDict(value)
		if !ok {
			return nil, errNothing
		}
		return []model.Filter{{Column: column, Op: "=", Map: m}}, nil
	case "bootable", "consumes_quota", "multiattach":
		b, ok := schema.Truth(value)
		switch {
		case ok:
		case column == "consumes_quota":
			return nil, notBoolean("use_quota", value) // Cinder's name for it within
		case r.mv >= 2:
			return nil, fault.InvalidInput("'%s = %s'", column, value)
		default:
			b = true
		}
		return []model.Filter{{Column: column, Op: "=", Value: map[bool]string{true: "true", false: "false"}[b]}}, nil
	case "created_at", "updated_at":
		return timeFilters(column, value)
	case "host": // of volumes: HOST@BACKEND#POOL, or the first of it
		host, _, full := strings.Cut(value, "@")
		if full && op == "=" && r.node != nil {
			var err error
			if host, err = r.node(value); err != nil {
				return nil, err
			}
		}
		return []model.Filter{{Column: column, Op: op, Value: host}}, nil
	}
	return []model.Filter{{Column: column, Op: op, Value: value}}, nil
}

// timeFilters reads gt:2020-01-01,lte:2021-01-01T00:00:00 (3.60).
func timeFilters(column, value string) ([]model.Filter, error) {
	var out []model.Filter
	for _, part := range strings.Split(value, ",") {
		op, when, _ := strings.Cut(part, ":")
		if !slices.Contains([]string{"lt", "lte", "gt", "gte", "eq", "neq"}, op) {
			return nil, fault.BadRequest("Invalid %s operator", op)
		}
		t, ok := parseTime(when)
		if !ok {
			return nil, fault.BadRequest("Invalid %s value", when)
		}
		out = append(out, model.Filter{Column: column, Op: op, Value: t.UTC().Format(time.RFC3339Nano)})
	}
	return out, nil
}

func parseTime(s string) (time.Time, bool) {
	for _, layout := range []string{
		time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999",
		"2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02",
	} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

// parseDict reads {"a": "b"} or, as older clients send it, Python's {'a': 'b'} or {u'a': u'b'}.
// Values that are no strings are taken as their text.
func parseDict(s string) (model.StringMap, bool) {
	var raw map[string]json.RawMessage
	if json.Unmarshal([]byte(s), &raw) != nil {
		converted, ok := pythonToJSON(s)
		if !ok || json.Unmarshal([]byte(converted), &raw) != nil {
			return nil, false
		}
	}
	if raw == nil {
		return nil, false
	}
	m := model.StringMap{}
	for k, v := range raw {
		m[k] = schema.Str(v)
		if strings.ContainsRune(k+m[k], 0) { // as no row has it
			return nil, false
		}
	}
	return m, true
}

// pythonToJSON rewrites the strings of a Python literal as JSON strings.
func pythonToJSON(s string) (string, bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		ch := s[i]
		if ch == 'u' && i+1 < len(s) && (s[i+1] == '\'' || s[i+1] == '"') {
			continue
		}
		if ch != '\'' && ch != '"' {
			b.WriteByte(ch)
			continue
		}
		var text []byte
		end := i + 1
		for ; end < len(s) && s[end] != ch; end++ {
			if s[end] == '\\' && end+1 < len(s) {
				end++
			}
			text = append(text, s[end])
		}
		if end >= len(s) {
			return "", false
		}
		quoted, err := json.Marshal(string(text))
		if err != nil {
			return "", false
		}
		b.Write(quoted)
		i = end
	}
	return b.String(), true
}
