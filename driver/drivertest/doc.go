// Package drivertest holds the conformance suite of each contract in package driver. The
// real implementations pass them on real kernels, the fakes in memory.
package drivertest
