// Package scheduler is the part of the control plane that decides and has done: which
// node a volume lives on, who reads an image from whom, what has to be told to whom
// when something changes. The decisions are pure functions in the packages below
// (tree: parents; reconcile: a node's document); this package feeds them from the
// [Store] and carries their results to the nodes over [Nodes].
//
// Every replica of the control plane runs all of it. What only one may do at a time is
// under a lease or a row lock in the database; nothing is remembered in memory that
// another replica would have to know.
package scheduler
