package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

const memberColumns = `m.image_id, m.host, m.role, m.state, m.parent, m.fallback, m.depth, m.children, m.pinned, m.secret,
	m.thin_base, m.cache_made, m.reason, m.observed_parent, m.upstream_bytes, m.read_bytes, m.served_bytes, m.cache_hits,
	m.cache_misses, m.error, m.created_at, m.updated_at`

// thinPerRelay numbers are set aside in its pool for a relay's cache.
const thinPerRelay = 4

// Members returns the tree of an image, shallowest first.
func (s *Store) Members(ctx context.Context, image uuid.UUID) ([]model.Member, error) {
	var ms []model.Member
	return ms, s.list(ctx, &ms, membersOf, image)
}

const membersOf = "SELECT " + memberColumns + " FROM tree_members m WHERE m.image_id = $1 ORDER BY m.depth, m.host"

// Members returns the tree of an image, shallowest first.
func (t *Tx) Members(image uuid.UUID) ([]model.Member, error) {
	var ms []model.Member
	return ms, t.list(&ms, membersOf, image)
}

// Member returns one member.
func (t *Tx) Member(image uuid.UUID, host string) (model.Member, error) {
	return t.member(image, host, "")
}

func (t *Tx) member(image uuid.UUID, host, lock string) (model.Member, error) {
	var ms []model.Member
	err := t.list(&ms, "SELECT "+memberColumns+" FROM tree_members m WHERE m.image_id = $1 AND m.host = $2"+lock, image, host)
	return one(ms, err, "member", image.String()+"@"+host)
}

// PutMember inserts or updates role, state, parent, fallback, pinned, secret and reason.
// A new relay gets its thin numbers. The depth follows from the parent's (m.Depth counts
// only while the parent has no row yet), also that of all below; the children counts of
// old and new parent follow too. A parent that is below the member is ErrInvalid.
func (t *Tx) PutMember(m model.Member) error {
	if err := t.lockedImage(m.ImageID); err != nil {
		return err
	}
	// Locked, so that no report of its node moves its state in between.
	old, err := t.member(m.ImageID, m.Host, " FOR NO KEY UPDATE")
	switch {
	case errors.Is(err, model.ErrNotFound):
		err = t.addMember(m)
	case err == nil:
		err = t.changeMember(old, m)
	}
	if err != nil {
		return fmt.Errorf("member %s@%s: %w", m.ImageID, m.Host, err)
	}
	return nil
}

// addMember is one statement.
func (t *Tx) addMember(m model.Member) error {
	relay := 0
	if m.Role == model.RoleRelay {
		relay = thinPerRelay
	}
	var children int
	err := t.get(&children, `WITH parent AS (
			UPDATE tree_members SET children = children + 1 WHERE image_id = $1 AND host = $5 RETURNING depth),
		thin AS (
			INSERT INTO thin_numbers AS t (host, next) SELECT $2, 1 + $11::bigint WHERE $11 > 0
			ON CONFLICT (host) DO UPDATE SET next = t.next + $11 RETURNING next - $11 AS base)
		INSERT INTO tree_members (image_id, host, role, state, parent, fallback, depth, children, pinned, secret, reason, thin_base)
		VALUES ($1, $2, $3, $4, $5, $6, CASE WHEN $5::text IS NULL THEN 0 ELSE COALESCE((SELECT depth + 1 FROM parent), $7) END,
			(SELECT count(*) FROM tree_members WHERE image_id = $1 AND parent = $2),
			$8, $9, $10, COALESCE((SELECT base FROM thin), 0))
		RETURNING children`,
		m.ImageID, m.Host, m.Role, m.State, m.Parent, m.Fallback, m.Depth, m.Pinned, m.Secret, m.Reason, relay)
	if err != nil {
		return refers(err, "node")
	}
	if children > 0 { // they came before it
		return t.deepen(m.ImageID, m.Host)
	}
	return nil
}

func (t *Tx) changeMember(old, m model.Member) error {
	if m.Parent != nil && !same(old.Parent, m.Parent) {
		var below bool
		err := t.get(&below, `WITH RECURSIVE up AS (
				SELECT host, parent FROM tree_members WHERE image_id = $1 AND host = $2
				UNION SELECT m.host, m.parent FROM tree_members m JOIN up ON m.host = up.parent WHERE m.image_id = $1)
			SELECT EXISTS (SELECT 1 FROM up WHERE host = $3)`, m.ImageID, *m.Parent, m.Host)
		if err != nil {
			return err
		}
		if below {
			return say(model.ErrInvalid, "parent %s is below %s in the tree", *m.Parent, m.Host)
		}
	}
	thin := old.ThinBase
	if thin == 0 && m.Role == model.RoleRelay { // was a root
		var err error
		if thin, err = t.takeThin(m.Host, thinPerRelay); err != nil {
			return err
		}
	}
	err := t.exec(`UPDATE tree_members SET role = $3, parent = $4, fallback = $5, pinned = $6, secret = $7, reason = $8,
		thin_base = $9, cache_made = cache_made AND NOT $10, updated_at = now() WHERE image_id = $1 AND host = $2`,
		m.ImageID, m.Host, m.Role, m.Parent, m.Fallback, m.Pinned, m.Secret, m.Reason, thin,
		old.State == model.MemberLeaving) // one that comes back may find its cache gone, and that is no loss
	if err != nil {
		return err
	}
	if m.State != old.State {
		moved, err := t.move(change{
			of: memberState, where: "image_id = ? AND host = ?", args: []any{m.ImageID, m.Host}, from: words(old.State), to: string(m.State),
		})
		if err != nil {
			return err
		}
		if len(moved) == 0 { // can't be: its row is locked
			return say(model.ErrConflict, "Member %s of image %s changed meanwhile.", m.Host, m.ImageID)
		}
	}
	if same(old.Parent, m.Parent) {
		return nil
	}
	return t.hang(m.ImageID, m.Host, old.Parent, m.Parent)
}

// hang follows a change of a member's parent: counts of both parents, depths below.
func (t *Tx) hang(image uuid.UUID, host string, from, to *string) error {
	err := t.exec(`UPDATE tree_members SET children = children + CASE WHEN host = $3 THEN 1 ELSE -1 END
		WHERE image_id = $1 AND host IN ($2, $3)`, image, from, to)
	if err != nil {
		return fmt.Errorf("children of its parents: %w", err)
	}
	return t.deepen(image, host)
}

// deepen writes the depths of a member and all below it.
func (t *Tx) deepen(image uuid.UUID, host string) error {
	err := t.exec(`WITH RECURSIVE sub AS (
			SELECT m.host, CASE WHEN m.parent IS NULL THEN 0 ELSE COALESCE(p.depth + 1, m.depth) END AS depth
			FROM tree_members m LEFT JOIN tree_members p ON p.image_id = m.image_id AND p.host = m.parent
			WHERE m.image_id = $1 AND m.host = $2
			UNION ALL
			SELECT m.host, sub.depth + 1 FROM tree_members m JOIN sub ON m.parent = sub.host
			WHERE m.image_id = $1 AND sub.depth < 100000)
		UPDATE tree_members m SET depth = sub.depth FROM sub WHERE m.image_id = $1 AND m.host = sub.host AND m.depth <> sub.depth`, image, host)
	if err != nil {
		return fmt.Errorf("depths: %w", err)
	}
	return nil
}

// DeleteMember removes a member; its parent's count follows, and nobody names it as a
// fallback any more. At commit it is ErrInUse if it still has children.
func (t *Tx) DeleteMember(image uuid.UUID, host string) error {
	if err := t.lockedImage(image); err != nil {
		return err
	}
	var parents []sql.NullString
	err := t.list(&parents, "DELETE FROM tree_members WHERE image_id = $1 AND host = $2 RETURNING parent", image, host)
	parent, err := one(parents, err, "member", image.String()+"@"+host)
	if err != nil {
		return err
	}
	if parent.Valid {
		if err := t.exec("UPDATE tree_members SET children = children - 1 WHERE image_id = $1 AND host = $2", image, parent.String); err != nil {
			return fmt.Errorf("children of %s: %w", parent.String, err)
		}
	}
	return t.exec("UPDATE tree_members SET fallback = NULL WHERE image_id = $1 AND fallback = $2", image, host)
}

// VolumesOf counts an image's volumes by their homes, and its tasks by their nodes. One that
// is deleting, or has ended, counts until its row goes: its device stands on the image's.
func (t *Tx) VolumesOf(image uuid.UUID) (map[string]int, error) {
	var rows []struct {
		Home  string `db:"home"`
		Count int    `db:"count"`
	}
	err := t.list(&rows, `SELECT home, count(*) AS count FROM (
		SELECT home FROM volumes WHERE image_id = $1 AND home IS NOT NULL
		UNION ALL SELECT host FROM tasks WHERE image_id = $1) AS all_of_them GROUP BY home`, image)
	if err != nil {
		return nil, fmt.Errorf("volumes of image %s: %w", image, err)
	}
	out := make(map[string]int, len(rows))
	for _, r := range rows {
		out[r.Home] = r.Count
	}
	return out, nil
}

// takeThin takes n consecutive thin numbers of a host's pool. A number is never given
// twice, so what an agent left behind by mistake is never taken for something new.
func (t *Tx) takeThin(host string, n int) (int64, error) {
	var next int64
	err := t.get(&next, `INSERT INTO thin_numbers AS t (host, next) VALUES ($1, 1 + $2)
		ON CONFLICT (host) DO UPDATE SET next = t.next + $2 RETURNING next`, host, n)
	if err != nil {
		return 0, fmt.Errorf("thin numbers of %s: %w", host, refers(err, "node"))
	}
	return next - int64(n), nil
}

func same(a, b *string) bool {
	return a == b || a != nil && b != nil && *a == *b
}
