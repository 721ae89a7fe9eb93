// Package mover copies a volume from one node to another: the tasks of kinds
// model.TaskMigrate, on the new home, and model.TaskServe, on the old one.
//
// The old home only keeps a frozen copy up, exported read-only; there is nothing to do
// for it but to last. The new home logs in to that, reads it from front to back, and
// writes to its own device what differs from what it reads there: over an image that is
// what was ever written to the volume, over nothing whatever is not zero. So what is
// written takes as much room as it has to, and whatever an earlier attempt has written
// is not written again.
package mover
