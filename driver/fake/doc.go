// Package fake holds in-memory twins of the drivers, by which what is built on them is tested
// fast and with faults. They refuse what the kernel refuses, and pass the suites of
// package drivertest as the real ones do.
package fake
