// Package wire puts the parts together: configuration to drivers, stores to services,
// the bus between them. It is the only place that knows them all.
package wire
