package db

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"
	"github.com/lib/pq"

	"github.com/vmthunder/vmthunder/db/model"
)

// frontier goes through the numbers of children that there are, fewest first, and takes of
// each the shallowest members: the partial index holds (image_id, children, depth, host) of
// those who serve, so that full ones are not met, however many.
const frontier = `WITH RECURSIVE counts AS (
		(SELECT children FROM tree_members WHERE image_id = $1 AND state IN ('joining', 'active') AND children < $2
			ORDER BY children LIMIT 1)
		UNION ALL
		SELECT (SELECT m.children FROM tree_members m WHERE m.image_id = $1 AND m.state IN ('joining', 'active')
				AND m.children > c.children AND m.children < $2 ORDER BY m.children LIMIT 1)
		FROM counts c WHERE c.children IS NOT NULL)
	SELECT m.* FROM counts c CROSS JOIN LATERAL (
		SELECT ` + memberColumns + ` FROM tree_members m JOIN nodes n ON n.host = m.host
		WHERE m.image_id = $1 AND m.children = c.children AND m.state IN ('joining', 'active') AND n.alive AND NOT n.draining
		ORDER BY m.depth, m.host LIMIT $3) AS m
	ORDER BY m.depth, m.children, m.host LIMIT $3`

// Frontier returns members that could take a child: state joining or active, on a node
// that is alive and does not drain, children < degree, shallowest first, at most limit.
func (t *Tx) Frontier(image uuid.UUID, degree, limit int) ([]model.Member, error) {
	var ms []model.Member
	return ms, t.list(&ms, frontier, image, degree, limit)
}

// MembersOf returns those of the hosts that are members, by host.
func (t *Tx) MembersOf(image uuid.UUID, hosts ...string) ([]model.Member, error) {
	var ms []model.Member
	return ms, t.list(&ms, "SELECT "+memberColumns+" FROM tree_members m WHERE m.image_id = $1 AND m.host = ANY($2) ORDER BY m.host", image, pq.Array(hosts))
}

// place is one member's new place, as the statements below read it.
type place struct {
	Host     string  `json:"host"`
	State    string  `json:"state"`
	Parent   *string `json:"parent"`
	Fallback *string `json:"fallback"`
	Depth    int     `json:"depth"`
	Children int     `json:"children"`
	Pinned   bool    `json:"pinned"`
	Secret   string  `json:"secret"`
	Reason   string  `json:"reason"`
}

const placeColumns = `(host text, state text, parent text, fallback text, depth int, children int, pinned boolean, secret text, reason text)`

// count is by how much a member's count of children changes.
type count struct {
	Host string `json:"host"`
	By   int    `json:"by"`
}

// Place writes places in an image's tree, in as many statements for ten thousand as for
// one. added are relays that have no row yet (ErrExists if one has); they get their thin
// numbers. Of changed ones state, parent, fallback, depth, reason and, unless it is "",
// secret are written. Counts of children follow. Depths must fit: a member whose depth is
// not its parent's plus one is ErrInvalid, which also keeps circles out.
func (t *Tx) Place(image uuid.UUID, added, changed []model.Member) error {
	if err := t.lockedImage(image); err != nil {
		return err
	}
	by := map[string]int{}
	for _, m := range slices.Concat(added, changed) {
		if m.Parent != nil {
			by[*m.Parent]++
		}
	}
	before, err := t.lockPlaces(image, changed)
	if err != nil {
		return err
	}
	for _, m := range before {
		if m.Parent != nil {
			by[*m.Parent]--
		}
	}
	if err := t.addPlaces(image, added, by); err != nil {
		return fmt.Errorf("new members of image %s: %w", image, err)
	}
	if err := t.changePlaces(image, before, changed); err != nil {
		return fmt.Errorf("members of image %s: %w", image, err)
	}
	return t.fit(image, slices.Concat(added, changed))
}

// lockPlaces returns the rows of members that are to change, locked, so that no report of
// their nodes moves their states in between.
func (t *Tx) lockPlaces(image uuid.UUID, changed []model.Member) (map[string]model.Member, error) {
	if len(changed) == 0 {
		return nil, nil
	}
	var ms []model.Member
	err := t.list(&ms, "SELECT "+memberColumns+" FROM tree_members m WHERE m.image_id = $1 AND m.host = ANY($2) ORDER BY m.host FOR NO KEY UPDATE",
		image, pq.Array(hostsOf(changed)))
	if err != nil {
		return nil, fmt.Errorf("members of image %s: %w", image, err)
	}
	before := make(map[string]model.Member, len(ms))
	for _, m := range ms {
		before[m.Host] = m
	}
	for _, m := range changed {
		if _, ok := before[m.Host]; !ok {
			return nil, fmt.Errorf("member %s@%s: %w", image, m.Host, model.ErrNotFound)
		}
	}
	return before, nil
}

// addPlaces inserts relays and writes all counts of children; by is emptied of them.
func (t *Tx) addPlaces(image uuid.UUID, added []model.Member, by map[string]int) error {
	rows := make([]place, 0, len(added))
	for _, m := range added {
		if m.Role != model.RoleRelay {
			return say(model.ErrInvalid, "%s is to be placed as %s", m.Host, m.Role)
		}
		p := placeOf(m)
		p.Children = by[m.Host]
		delete(by, m.Host)
		rows = append(rows, p)
	}
	counts := make([]count, 0, len(by))
	for _, host := range slices.Sorted(maps.Keys(by)) {
		if n := by[host]; n != 0 {
			counts = append(counts, count{host, n})
		}
	}
	if len(rows)+len(counts) == 0 {
		return nil
	}
	list, err := json.Marshal(rows)
	if err != nil {
		return err
	}
	changes, err := json.Marshal(counts)
	if err != nil {
		return err
	}
	err = t.exec(`WITH x AS MATERIALIZED (SELECT * FROM jsonb_to_recordset($2::jsonb) AS x `+placeColumns+`),
		counted AS (
			UPDATE tree_members m SET children = m.children + c.by FROM jsonb_to_recordset($3::jsonb) AS c (host text, by int)
			WHERE m.image_id = $1 AND m.host = c.host),
		thin AS (
			INSERT INTO thin_numbers AS t (host, next) SELECT host, 1 + $4::bigint FROM x ORDER BY host
			ON CONFLICT (host) DO UPDATE SET next = t.next + $4 RETURNING host, next - $4 AS base)
		INSERT INTO tree_members (image_id, host, role, state, parent, fallback, depth, children, pinned, secret, reason, thin_base)
		SELECT $1, host, 'relay', state, parent, fallback, depth, children, pinned, secret, reason, base FROM x JOIN thin USING (host)`,
		image, string(list), string(changes), thinPerRelay)
	return refers(err, "node")
}

// changePlaces writes members that have a row.
func (t *Tx) changePlaces(image uuid.UUID, before map[string]model.Member, changed []model.Member) error {
	if len(changed) == 0 {
		return nil
	}
	type step struct{ from, to model.MemberState }
	moves := map[step][]string{}
	rows := make([]place, 0, len(changed))
	for _, m := range changed {
		rows = append(rows, placeOf(m))
		if s := (step{before[m.Host].State, m.State}); s.from != s.to {
			moves[s] = append(moves[s], m.Host)
		}
	}
	list, err := json.Marshal(rows)
	if err != nil {
		return err
	}
	// One that was leaving may find its cache gone, and that is no loss.
	err = t.exec(`UPDATE tree_members m SET parent = x.parent, fallback = x.fallback, depth = x.depth, reason = x.reason,
			secret = CASE WHEN x.secret = '' THEN m.secret ELSE x.secret END, cache_made = m.cache_made AND m.state <> 'leaving', updated_at = now()
		FROM jsonb_to_recordset($2::jsonb) AS x `+placeColumns+` WHERE m.image_id = $1 AND m.host = x.host`, image, string(list))
	if err != nil {
		return err
	}
	for s, hosts := range moves {
		moved, err := t.move(change{
			of: memberState, where: "image_id = ? AND host = ANY(?)", args: []any{image, pq.Array(hosts)}, from: words(s.from), to: string(s.to),
		})
		if err != nil {
			return err
		}
		if len(moved) != len(hosts) { // can't be: their rows are locked
			return say(model.ErrConflict, "Members of image %s changed meanwhile.", image)
		}
	}
	return nil
}

// fit looks whether the depths of members and of those below them are right. Where every
// member is one deeper than its parent, nobody is below himself.
func (t *Tx) fit(image uuid.UUID, of []model.Member) error {
	var wrong string
	err := t.get(&wrong, `WITH x AS MATERIALIZED (SELECT unnest($2::text[]) AS host)
		SELECT m.host FROM (
			SELECT m.host, m.parent, m.depth FROM x JOIN tree_members m ON m.image_id = $1 AND m.host = x.host
			UNION ALL SELECT m.host, m.parent, m.depth FROM x JOIN tree_members m ON m.image_id = $1 AND m.parent = x.host) AS m
		LEFT JOIN tree_members p ON p.image_id = $1 AND p.host = m.parent
		WHERE m.depth <> COALESCE(p.depth + 1, 0) LIMIT 1`, image, pq.Array(hostsOf(of)))
	switch {
	case errors.Is(err, model.ErrNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("depths in the tree of image %s: %w", image, err)
	}
	return say(model.ErrInvalid, "member %s of image %s has a depth that is not its parent's plus one", wrong, image)
}

// Pin keeps relays in an image's tree, or no longer keeps them. Who is no member is passed over.
func (t *Tx) Pin(image uuid.UUID, hosts []string, pinned bool) error {
	if err := t.lockedImage(image); err != nil {
		return err
	}
	err := t.exec(`UPDATE tree_members SET pinned = $3, updated_at = now()
		WHERE image_id = $1 AND host = ANY($2) AND role = 'relay' AND pinned <> $3`, image, pq.Array(hosts), pinned)
	if err != nil {
		return fmt.Errorf("members of image %s: %w", image, err)
	}
	return nil
}

func placeOf(m model.Member) place {
	return place{
		Host: m.Host, State: string(m.State), Parent: m.Parent, Fallback: m.Fallback, Depth: m.Depth,
		Pinned: m.Pinned, Secret: m.Secret, Reason: m.Reason,
	}
}

func hostsOf(ms []model.Member) []string {
	out := make([]string, len(ms))
	for i := range ms {
		out[i] = ms[i].Host
	}
	return out
}
