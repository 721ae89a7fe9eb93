// Package v3 serves the Block Storage API v3, microversions 3.0 to 3.70, as Cinder 21
// (Zed) does: paths, bodies, messages and status codes. One file per noun.
//
// Snapshots, backups, groups, transfers and QoS specs do not exist yet: their lists are
// empty, their items are not found, and to make one is a 400 that says so.
//
// # Extension vmthunder
//
// Beside what Cinder has there is (alias vmthunder in /extensions):
//
//   - POST /volumes/batch {"volume": {…}, "count": N, "name_template": "vm-{}"}: N volumes
//     in one transaction, all or none; 202 {"volumes": […]}. The body of volume is that of
//     POST /volumes, {} in the template is the number from 1 on; without template
//     the names are name-1 to name-N.
//   - GET /vmthunder/images, /vmthunder/images/{id}/tree, /vmthunder/nodes for operators;
//     bodies in package view, file operator.go.
//   - metadata vmthunder:import ("download 34% of 512 MiB") in show and detail while a
//     volume waits for its image, vmthunder:error when its status is error. They are not stored
//     and can't be written.
package v3
