// Package agent is the reconcile loop of a node: it takes the document that says
// what should stand (model.Desired), looks at what stands, has package stack plan
// the difference, and carries the plan out through the contracts of package driver.
//
// It keeps no state that matters. What it remembers between two passes (which targets
// it has gone through, errors, back-off) may be lost at any time; after a start it
// reports what it finds with generation 0 and is sent the document again. Until
// then it changes nothing: what VMs use stays as it is.
//
// Each image with its volumes, and each blank volume, is a group with a worker of
// its own, so that a parent that does not answer holds up nobody else's volumes.
package agent
