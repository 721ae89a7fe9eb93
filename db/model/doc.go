// Package model holds what the rest of the program talks about: rows of the
// database, the status machine, and the two documents that travel between
// control plane and node agents, [Desired] and [Observed]. It is a leaf: it
// imports nothing of this module.
//
// Every size called Bytes is in bytes, GiB in 2^30 bytes. Times are UTC.
package model
