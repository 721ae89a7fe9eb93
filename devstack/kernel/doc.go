// Package kernel runs the drivers' kernel tests (build tag kernel) where there is a kernel
// for them: each package's test binary as root in a laboratory node of its own, with
// blank disks.
package kernel
