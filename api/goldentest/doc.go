// Package goldentest replays 290 requests that were made to a real Cinder 21.3.1 with its
// fake driver, in the order they were made, and compares the answers with Cinder's: status,
// headers, and of bodies the keys and the types of values; messages, statuses of volumes,
// links and aliases by value.
//
// What is answered otherwise stands in differences.go, with its reason: a row that differs
// without standing there is wrong, and so is a row that stands there and does not differ.
// In the recording (golden.jsonl) the host is cinder.example, and transfers' keys and names
// of backends' files are scrubbed.
package goldentest
