// Package tree decides who reads from whom in the distribution tree of one image.
//
// Roots hold the image. Every other member has one parent, and a fallback known in
// advance, to which it may go by itself when the parent is gone. All decisions
// are pure functions of an [Observed]: no clock, no I/O, no goroutines; the order
// of the input does not matter. They return a [Plan], which the caller writes.
//
// What holds after every plan ([Check] says it in words for doctor and tests):
//
//   - No cycle, and everyone reaches a root.
//   - At most degree children each. Where that can't be, because nobody else is left
//     or the place is freed by somebody who is leaving, the child's Reason begins
//     with [OverDegree]; [Rebalance] ends it.
//   - Parents and fallbacks together have no cycle either: a fallback is shallower
//     than the member, or as deep with a smaller host name. So children that go to
//     their fallbacks on their own, at the same time, can't end up in a circle.
//   - Who has died is a leaf, and holds no place that a living member could take.
//   - A member moves only if its parent dies, drains or can't be reached, or (in
//     Rebalance) if it is too deep or one too many.
//
// A joining burst is placed as a whole, without waiting for parents to be ready:
// children retry their login until the parent serves.
package tree
