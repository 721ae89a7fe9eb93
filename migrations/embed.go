// Package migrations holds the database's schema as numbered SQL files, embedded
// into the binary and applied by `vmthunder db sync`.
package migrations

import "embed"

// FS holds NNNNN_name.sql, in goose's format.
//
//go:embed *.sql
var FS embed.FS
