// Package doctor finds what is wrong: where nodes and the database disagree, and where rows of the database
// do that must agree. It decides only. What it is given was read by somebody else, and so is the time, so
// that the same input gives the same findings:
//
//   - [Node] compares what a node sees with its document;
//   - [Tree] looks at one image and its tree;
//   - [Rows] looks at a [model.Census];
//   - [End] says what becomes of something whose work nobody does any more.
//
// A cluster is never quite at rest, and who cries wolf is not listened to. So what passes by itself is not
// wrong before it has lasted for longer than it should: the caller looks at a node until it is settled or
// has had time enough, and what is being worked on is given [Options.Stuck].
//
// A finding says what is wrong and what to do about it, and names a [model.Repair] only where that is safe:
// it can be done twice, writes nothing but rows, and takes nothing away that could hold data.
package doctor
