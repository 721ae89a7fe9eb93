package goldentest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// ids turns names and ids of the recording into those of the service.
type ids struct {
	names *strings.Replacer
	here  map[string]string // theirs → ours
	known map[string]bool   // ours
}

func newIDs(names []string) *ids {
	return &ids{names: strings.NewReplacer(names...), here: map[string]string{}, known: map[string]bool{}}
}

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

func (m *ids) put(theirs, ours string) {
	if theirs != ours {
		m.here[theirs], m.known[ours] = ours, true
	}
}

func (m *ids) replace(s string) string {
	for theirs, ours := range m.here {
		s = strings.ReplaceAll(s, theirs, ours)
	}
	return m.names.Replace(s)
}

// scrubbed stands in the recording for the key of a transfer.
const scrubbed = "scrubbed"

// learn notes which of our ids stand where theirs do.
func (m *ids) learn(want, have any) {
	switch w := want.(type) {
	case map[string]any:
		if h, ok := have.(map[string]any); ok {
			for k, x := range w {
				if key, ok := h[k].(string); ok && k == "auth_key" { // of the transfer that was just made
					m.here[scrubbed] = key
					continue
				}
				m.learn(x, h[k])
			}
		}
	case []any:
		if h, ok := have.([]any); ok && len(h) == len(w) {
			for i := range w {
				m.learn(w[i], h[i])
			}
		}
	case string:
		h, ok := have.(string)
		_, seen := m.here[w]
		if ok && !seen && !m.known[w] && w != h && uuidForm.MatchString(w) && uuidForm.MatchString(h) {
			m.put(w, h)
		}
	}
}

// comparison of two bodies.
type comparison struct {
	ids      *ids
	skip     []string
	problems []string
}

func (m *comparison) problem(format string, args ...any) {
	m.problems = append(m.problems, fmt.Sprintf(format, args...))
}

// free are objects whose keys are data.
func free(path string) bool {
	return slices.ContainsFunc([]string{"metadata", "volume_image_metadata", "extra_specs", "capabilities", "connection_info", "data"},
		func(s string) bool { return strings.HasSuffix(path, "."+s) })
}

func (m *comparison) compare(path string, want, have any) {
	if slices.ContainsFunc(m.skip, func(s string) bool { return strings.HasSuffix(path, s) }) {
		return
	}
	switch w := want.(type) {
	case nil:
		return
	case map[string]any:
		m.object(path, w, have)
	case []any:
		h, ok := have.([]any)
		if !ok || len(h) != len(w) {
			m.problem("%s: %.300v, Cinder's has %d", path, have, len(w))
			return
		}
		for i := range w {
			m.compare(path+"[]", w[i], h[i])
		}
	case string:
		m.text(path, w, have)
	default:
		if have != nil && fmt.Sprintf("%T", want) != fmt.Sprintf("%T", have) {
			m.problem("%s: %v, Cinder's %v", path, have, want)
		}
	}
}

func (m *comparison) object(path string, want map[string]any, have any) {
	h, ok := have.(map[string]any)
	if !ok {
		m.problem("%s: %T, Cinder's is an object", path, have)
		return
	}
	for k := range h {
		if _, there := want[k]; !there && !free(path) && !slices.Contains(m.skip, k) {
			m.problem("%s.%s is not in Cinder's answer", path, k)
		}
	}
	for k, x := range want {
		if y, there := h[k]; there {
			m.compare(path+"."+k, x, y)
		} else if !free(path) && !slices.Contains(m.skip, k) {
			m.problem("%s.%s is missing", path, k)
		}
	}
}

// nullable are values that Cinder has and we may lack.
var nullable = []string{"service_uuid", "attr:host", "updated_at"}

func hasEnd(path string, ends ...string) bool {
	return slices.ContainsFunc(ends, func(s string) bool { return strings.HasSuffix(path, s) })
}

func (m *comparison) text(path, want string, have any) {
	if have == nil {
		if !hasEnd(path, nullable...) {
			m.problem("%s: null, Cinder's %q", path, want)
		}
		return
	}
	h, ok := have.(string)
	switch {
	case !ok:
		m.problem("%s: %v, Cinder's %q", path, have, want)
	case uuidForm.MatchString(want) && !uuidForm.MatchString(h):
		m.problem("%s: %q is no id, Cinder's %q", path, h, want)
	case hasEnd(path, ".message", "volume.status", "volumes[].status", ".href", ".alias", ".metadata.readonly"):
		if w := m.ids.replace(want); h != w {
			m.problem("%s: %q, Cinder's %q", path, h, w)
		}
	case strings.HasSuffix(path, "_at") && want != "":
		if _, err := time.Parse("2006-01-02T15:04:05.999999", h); err != nil {
			m.problem("%s: %q is no time", path, h)
		}
	}
}
