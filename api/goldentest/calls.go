package goldentest

import (
	"bufio"
	"bytes"
	_ "embed" // the recording
	"encoding/json"
	"fmt"
	"strings"
)

// What stood in the recorded cloud.
const (
	Host    = "cinder.example:8776"
	Project = "1f8c1ac2a3d24f0ab7dbb1c4a9b9f1aa"
	// Image is an image of 1 MiB with property hw_disk_bus.
	Image = "3a9b1c58-7f5b-4a39-9a5c-6a2a2f3a2a11"
	// Types are those that stood before the first request.
	TypeDefault, TypeBuiltin = "029a4ef6-27e4-47ed-8fdf-f101c88df212", "2063ce1a-6881-4e0c-835e-c00d1f37c5ca"
	// Backend is a host as services and pools have it, with its pool's name behind.
	Backend, Pool = "zed1@fake1", "fake"
)

// Call is one request and Cinder's answer.
type Call struct {
	N       int             `json:"n"` // counts from 0
	Method  string          `json:"m"`
	Path    string          `json:"path"` // below /v3/PROJECT, but for / and /v3
	Version string          `json:"mv"`   // microversion asked for, "" none
	Body    json.RawMessage `json:"req"`
	Status  int             `json:"status"`
	Type    string          `json:"ctype"`
	Answer  string          `json:"resp"`
	Label   string          `json:"label"`
}

//go:embed golden.jsonl
var recording []byte

// Calls are all calls, in order.
func Calls() ([]Call, error) {
	var out []Call
	s := bufio.NewScanner(bytes.NewReader(recording))
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var c Call
		if err := json.Unmarshal(s.Bytes(), &c); err != nil {
			return nil, fmt.Errorf("golden.jsonl, call %d: %w", len(out), err)
		}
		out = append(out, c)
	}
	return out, s.Err()
}

// Resource is what the call is about, the first element of its path.
func (c Call) Resource() string {
	path, _, _ := strings.Cut(strings.TrimPrefix(c.Path, "/"), "?")
	first, rest, _ := strings.Cut(path, "/")
	switch {
	case first == "" || first == "v3":
		return "versions"
	case first == "volumes" && strings.HasSuffix(rest, "/action"):
		return "volumes/action"
	case first == "volumes" && strings.Contains(rest, "/metadata"):
		return "volumes/metadata"
	}
	return first
}

func (c Call) String() string { return fmt.Sprintf("%03d %s %s", c.N, c.Method, c.Path) }

// url is the path and query of the call at the service, escaped as a client does.
func (c Call) url(project string) string {
	path := c.Path
	switch {
	case c.Label == "/v3/{pid}":
		path = "/v3/" + project
	case path == "/" || strings.HasPrefix(path, "/v3"):
	case strings.HasPrefix(path, "/default-types"):
		path = "/v3" + path
	default:
		path = "/v3/" + project + path
	}
	return strings.NewReplacer("#", "%23", `"`, "%22", "{", "%7B", "}", "%7D").Replace(path)
}
