package v3

import (
	"maps"
	"slices"
)

// Route of the API, for tests that must not forget one.
type Route struct {
	Method, Path string // the path below /v3, with {variables}
	Min          int    // minor of its first microversion
	Actions      []string
}

// Routes are all there are.
func (a *API) Routes() []Route {
	var out []Route
	for _, r := range a.routes() {
		one := Route{Method: r.method, Path: r.path, Min: int(r.min)}
		switch r.path {
		case "/volumes/{id}/action":
			one.Actions = slices.Sorted(maps.Keys(a.volumeActions()))
		case "/snapshots/{id}/action":
			one.Actions = slices.Sorted(maps.Keys(a.snapshotActions()))
		case "/backups/{id}/action":
			one.Actions = slices.Sorted(maps.Keys(a.backupActions()))
		case "/types/{id}/action":
			one.Actions = []string{"addProjectAccess", "removeProjectAccess"}
		case "/groups/{id}/action":
			one.Actions = slices.Sorted(maps.Keys(a.groupActions()))
		case "/groups/action":
			one.Actions = []string{"create-from-src"}
		case "/group_snapshots/{id}/action":
			one.Actions = []string{"reset_status"}
		case "/attachments/{id}/action":
			one.Actions = []string{"os-complete"}
		}
		out = append(out, one)
	}
	return out
}
