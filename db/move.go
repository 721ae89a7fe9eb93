package db

import (
	"context"
	"fmt"
	"strings"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
)

// statusOf names a status column: table.column.
type statusOf string

const (
	volumeStatus     statusOf = "volumes.status"
	imageStatus      statusOf = "images.status"
	attachmentStatus statusOf = "attachments.attach_status"
	snapshotStatus   statusOf = "snapshots.status"
	groupStatus      statusOf = "volume_groups.status"
	// groupSnapshotStatus is moved after those of its snapshots.
	groupSnapshotStatus statusOf = "group_snapshots.status"
	memberState         statusOf = "tree_members.state"
	taskStatus          statusOf = "tasks.status"
	backupStatus        statusOf = "backups.status"
)

// change of a status of the rows that where selects. Placeholders are ?.
type change struct {
	of      statusOf
	where   string
	args    []any
	from    []string // statuses it may leave; nil: any, for those who hold the row's lock and have looked
	to      string
	set     string // further columns, written along
	setArgs []any
}

// move makes the change in the rows whose status is one of from and returns their ids
// (of members: the image's). No row: somebody else moved it; look again. This is the
// only way a status is written, so that nothing deleted comes back to life.
func move(ctx context.Context, q sqlx.ExtContext, c change) ([]string, error) {
	table, column, _ := strings.Cut(string(c.of), ".")
	key := "id"
	if c.of == memberState {
		key = "image_id"
	}
	set, where := column+" = ?, updated_at = now()", c.where
	args := append([]any{c.to}, c.setArgs...)
	if c.set != "" {
		set += ", " + c.set
	}
	args = append(args, c.args...)
	if c.from != nil {
		where += " AND " + column + " = ANY(?)"
		args = append(args, pq.Array(c.from))
	}
	query := fmt.Sprintf("UPDATE %s SET %s WHERE %s RETURNING %s", table, set, where, key)
	var ids []string
	err := sqlx.SelectContext(ctx, q, &ids, sqlx.Rebind(sqlx.DOLLAR, query), args...)
	return ids, translate(ctx, err)
}

func words[T ~string](of ...T) []string {
	out := make([]string, len(of))
	for i, v := range of {
		out[i] = string(v)
	}
	return out
}
