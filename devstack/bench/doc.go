// Package bench measures the product in the laboratory: how long volumes take, what the
// origin sends, what a read through the stack costs, and how all of that grows. Whatever
// has a peer that can do the same work on the same machine is measured in turn with it
// (A B A B), so that the noise of the machine meets both.
//
// Each file is one case; a case makes the laboratory it needs, adds rows to the report
// and takes everything down again. Rows hold every sample; the table shows median and
// spread and, where there is a goal, whether it was met. A row that misses its goal says why.
package bench
