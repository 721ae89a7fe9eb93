// Package e2e holds the tests of the whole product in a laboratory of real kernels and
// real servers: volumes made by the API, attached on nodes, read and written there, with
// every byte compared. They need the build tag lab and root:
//
//	go test -tags lab ./devstack/e2e
//
// The laboratory and the product in it are started once for all tests, which run one
// after the other; each leaves every node as empty as it found it, and checks that in the
// nodes' kernels. VMT_LAB_STATE names a laboratory that stands already, whose nodes are
// then wiped first.
package e2e
