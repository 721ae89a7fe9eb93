// Package stack decides what has to be done on a node: it compares the document
// that the control plane sent with what stands, and lists the steps that lead from
// one to the other. It is pure; package agent looks, and carries out the steps.
//
// A plan is for one image with its volumes, or for one blank volume, because
// these depend on each other and on nothing else. Its steps are in an order that
// is safe to stop at anywhere: whatever was done up to there is what the next plan,
// made from a fresh look, builds upon. So there is no journal, and a crash at
// any step is nothing but an early end of that plan.
//
// The order of building is from the bottom up, of taking down from the top. Data is
// removed only where the document says absent, never because it says nothing.
package stack
