// Package tempest runs OpenStack's integration tests, Debian's packages tempest and
// cinder-tempest-plugin, against a cloud: it makes a workspace with a tempest.conf, runs
// what matches a regular expression, and reads the results.
//
// What tempest is told of a cloud decides what it tests. Features that a cloud has not are
// switched off by the options made for that (Features), never by a list of tests to skip,
// so a test that fails is a test that fails.
package tempest
