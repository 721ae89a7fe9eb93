// Package v3 serves the Block Storage API v3, microversions 3.0 to 3.70, as Cinder 21
// (Zed) does: paths, bodies, messages and status codes. One file per noun.
//
// Groups do not exist yet: their lists are empty, their items are not found,
// and to make one is a 400 that says so. Volume types can be encrypted, but there is no key
// manager yet: a volume of such a type can't be made, and never is made without a key.
//
// # Extension vmthunder
//
// Beside what Cinder has there is (alias vmthunder in /extensions):
//
//   - POST /volumes/batch {"volume": {…}, "count": N, "name_template": "vm-{}", "partial":
//     false}: N volumes in one transaction, all or none; 202 {"volumes": […]}. The body of
//     volume is that of POST /volumes, {} in the template is the number from 1 on; without
//     template the names are name-1 to name-N. Without size the volumes have that of
//     their image, rounded up to GiB. N beyond a quota is a 413, and nothing is made; with
//     partial as many as fit are made, the first ones, and the answer has beside them
//     "short": {"count": how many were not, "message": why}; 413 if not even one fits.
//     A client that goes away before the answer may have all of them or none.
//   - GET /vmthunder/images, /vmthunder/images/{id}/tree, /vmthunder/nodes for operators;
//     bodies in package view, file operator.go.
//   - GET, POST, DELETE /vmthunder/nodes/{host}/drain for operators: what is left on a node that is to
//     be taken out of service; POST has it drain, DELETE ends that. Body: view, drain.go.
//   - GET /vmthunder/doctor for operators: what is wrong on the nodes and in the database, in
//     ?node=, ?image= or ?volume= only; it may take some seconds for each node that is at work. POST
//     mends what is safe, and answers with what was done and what is left. Body: view, doctor.go.
//   - POST /vmthunder/images/{id}/warm and /release {"nodes": ["host", …]}, for operators:
//     gives nodes a place in the image's tree before any volume needs it there, and keeps
//     it; release gives up what keeps it. No bytes are sent ahead. 200 with the tree. An
//     image that is not here yet is imported, and warm is a 202 with its state: nothing
//     else has been done, ask again when the tree says that it is active.
//   - metadata vmthunder:import ("download 34% of 512 MiB") in show and detail while a
//     volume waits for its image, vmthunder:error when its status is error, and in show
//     vmthunder:task ("upload-image: send 34% of 1 GiB") while it is uploaded. They are not
//     stored and can't be written.
package v3
