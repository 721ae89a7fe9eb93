// Package driver holds the contracts between the node agent and the kernel
// facilities and tools it builds volumes from. Every contract has one real
// implementation per facility in a package of its own below this one, and one
// in-memory fake in package driver/fake; both pass the same conformance suite
// in package driver/drivertest.
//
// # The stack
//
// One image on one node, bottom to top (names are those of [Names]):
//
//	session    iSCSI session to the parent, a SCSI disk           Initiator
//	path       multipath, read-only, queue_if_no_path             DeviceMapper
//	cache      bcache | dm-cache | flashcache | none              Cache
//	page       loop device, read-only, buffered                   Loop
//	relay      linear over page, exported read-only to children   DeviceMapper, TargetHelper
//
// On a root of the image's tree the page device stands on the image file itself
// and there is no session, path or cache. One volume on its home node:
//
//	cow        thin device in the node's pool                     Pool
//	base       linear over page, zero up to the volume's size     DeviceMapper
//	volume     snapshot(base, cow, persistent)                    DeviceMapper
//	export     linear over volume, exported to another host       DeviceMapper, TargetHelper
//
// # Copies
//
// A snapshot of a volume, a volume made from one, and a clone are thin snapshots of the
// cow device: exceptions and data are copied by reference, in one message to the pool,
// whatever the size, and no chain grows. The exception store must be whole when that
// happens, so the source's devices are suspended from the top down (export, volume, cow)
// and resumed from the bottom up: what was acknowledged is in the copy, in the order of
// writing. dm-snapshot writes an exception's data, then its metadata, then
// completes the write (drivers/md/dm-snap-persistent.c); with no write under way the
// store has no loose end. The image below is read-only and the same for both.
//
// A volume grows from the bottom up: cow, base, volume, export; dm-snapshot hands its
// exceptions over to the new table (drivers/md/dm-snap.c, __find_snapshots_sharing_cow).
//
// # Rules every implementation keeps
//
// 1. Idempotence. Making what stands already, exactly as asked, is success and
// changes nothing. Removing what is not there is success.
//
// 2. No state but the kernel's. An implementation remembers nothing between
// calls that it could not find again after a restart of the agent.
//
// 3. All or nothing. A creation of several steps that fails undoes the steps it
// made, under a context of its own ([Teardown]), and returns the first error
// joined with those of the undoing.
//
// 4. Errors say what, where and what to do, wrap one of the sentinels below
// where one fits, and never hold a secret.
//
// 5. Secrets never appear in an argument vector.
//
// Lengths and offsets in fields and parameters called sectors are units of 512
// bytes; those called bytes are bytes.
package driver
