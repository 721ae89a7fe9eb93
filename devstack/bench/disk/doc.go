// Package disk reads block devices inside a node of the laboratory and times each read: one
// process that answers requests on its input line by line, because in a node a process is
// dear (tens of milliseconds) and a system call is not free (about 20 µs).
package disk
