// Package clients shows the product to real clients, all from Debian's packages, in the
// laboratory: recorded requests and answers of a real Cinder, OpenStack's integration
// tests, Nova, the openstack command, and Horizon in a browser.
//
//	make test-clients
//	go test -tags lab ./devstack/clients -run TestTempest
//
// Each test puts lines into a table that stands at the end of the output: what was tried,
// how many cases passed, and why the others did not. What a person may want to look at
// afterwards, screenshots and results, is in the directory that $VMT_ARTEFACTS names, or
// else in one that is made and named.
package clients
