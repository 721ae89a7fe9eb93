package db

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/lib/pq"

	"github.com/vmthunder/vmthunder/db/model"
)

// said is an error of a kind of package model whose text is for users, without the
// kind's own words in front.
type said struct {
	kind error
	text string
}

func (e *said) Error() string { return e.text }
func (e *said) Unwrap() error { return e.kind }

func say(kind error, format string, args ...any) error {
	return &said{kind: kind, text: fmt.Sprintf(format, args...)}
}

// translate gives errors of the driver the kinds of package model; the driver's own
// error stays in the chain. Codes: PostgreSQL manual, appendix A.
func translate(ctx context.Context, err error) error {
	if err == nil || known(err) {
		return err
	}
	if ctx.Err() != nil {
		// The driver reports a cancelled statement in several ways.
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	if errors.Is(err, sql.ErrNoRows) {
		return model.ErrNotFound
	}
	if pe, ok := errors.AsType[*pq.Error](err); ok {
		return kindOf(pe, err)
	}
	var ne net.Error
	if errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.As(err, &ne) {
		return unavailable(err)
	}
	return err
}

func kindOf(pe *pq.Error, err error) error {
	switch pe.Code {
	case "23505": // unique_violation
		return fmt.Errorf("%w: %w", model.ErrExists, err)
	case codeEncrypted:
		return say(model.ErrConflict, "%s", pe.Message)
	case "23503": // foreign_key_violation
		return fmt.Errorf("%w: %w", model.ErrInUse, err)
	case "22021", "22P05", // NUL or what is no UTF-8, as text and in JSON
		"22001", "22003": // too long, out of range
		// Callers check values; what slips through is still no error of the database.
		return say(model.ErrInvalid, "A value of the request can not be stored.")
	case "42P01", "42703": // undefined_table, undefined_column
		return fmt.Errorf("the database's schema is not this program's, %s: %w", runSync, err)
	case "53300", // too_many_connections
		"53400",          // configuration_limit_exceeded
		"57014",          // query_canceled: by a timeout, since ctx stands
		"25006",          // read_only_sql_transaction: a standby
		"25P03", "55P03", // idle_in_transaction_session_timeout, lock_not_available
		"57P01", "57P02", "57P03", "57P05", // shutting down, crashed, starting up, idle for too long
		codeSerialization, codeDeadlock: // after all attempts
		return unavailable(err)
	}
	if c := pe.Code.Class(); c == "08" || c == "28" { // connection, authorization
		return unavailable(err)
	}
	return err
}

func unavailable(err error) error { return fmt.Errorf("database %w: %w", model.ErrUnavailable, err) }

func known(err error) bool {
	for _, k := range []error{model.ErrNotFound, model.ErrConflict, model.ErrExists, model.ErrInvalid, model.ErrUnavailable, model.ErrInUse} {
		if errors.Is(err, k) {
			return true
		}
	}
	return false
}

const (
	codeSerialization = "40001"
	codeDeadlock      = "40P01"
	codeEncrypted     = "VT001" // our own: see 00003_types.sql
)

// again tells whether a transaction that failed so may succeed when run once more.
func again(err error) bool {
	var pe *pq.Error
	return errors.As(err, &pe) && (pe.Code == codeSerialization || pe.Code == codeDeadlock)
}
