// Package db keeps every fact of the control plane in PostgreSQL (13 or later).
//
// Rules that hold for the whole package:
//
//   - A status is written by [move] alone, guarded by the statuses it may leave. Where
//     a caller holds the row's lock and has looked, the guard is the lock.
//   - Transactions are READ COMMITTED and take locks in one order: project (an
//     advisory lock, for quotas), group, image, volume
//     (by id), transfer, snapshot, group snapshot, attachment, task, unmanaged, tree member, thin number, node (by host). A node's
//     generation is therefore written last, at commit, whenever [Tx.Bump] was called.
//     Who changes a volume type holds it FOR UPDATE, and after it at most QoS specs: a
//     volume that is made holds on to its type by its reference, last of all.
//     What still deadlocks or fails to serialize is rolled back and run again.
//   - No transaction is held open while something outside the database is waited for.
//   - Locks are FOR NO KEY UPDATE, which does not hold up rows that merely refer to the
//     locked one (PostgreSQL manual, 13.3.2 Row-Level Locks).
//   - Errors are told apart with errors.Is and those of package model. One that is
//     ErrInvalid, ErrConflict or ErrNotFound has words for users.
package db
