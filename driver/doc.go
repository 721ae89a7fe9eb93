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
//	page       loop devices, read-only, buffered, as one          Loop, DeviceMapper
//	relay      the same of its own, exported read-only            Loop, DeviceMapper, TargetHelper
//
// On a root of the image's tree page and relay stand on the image file itself
// and there is no session, path or cache. One volume on its home node:
//
//	cow        thin device in the node's pool                     Pool
//	base       linear over page, zero up to the volume's size     DeviceMapper
//	volume     snapshot(base, cow, persistent)                    DeviceMapper
//	export     linear over volume, exported to another host       DeviceMapper, TargetHelper
//
// # The page layer
//
// All loop devices of an image stand on the same thing and so share its page cache, which locks
// a page while it is read: a page that several volumes and children want at once is
// fetched once. A loop device of Linux before 6.16 reads page by page and has one thread
// (drivers/block/loop.c, lo_read_simple, loop_process_work), and dm-snapshot cuts reads into
// chunks of 4 KiB. Through one loop device each node would ask its parent for 4 KiB and wait,
// and what is in memory would wait behind what is not. So neighbouring pages are
// spread over several (dm-switch), and the relay has devices of its own, for children must not
// wait behind the reads of the parent's volumes: that delay grows with each level of the tree.
// Read-ahead is no way: it makes the requests longer, and twice the bytes cross the network.
//
// Where the kernel has no dm-switch the page layer is one loop device, and the relay is
// linear over it.
//
// Measured in the laboratory on Linux 6.1 (vmthunder-bench spread: 8 cold nodes read the same
// 32 MiB at once, 4 requests under way in each): the last node's time, by that of the set
// over one link. The payload is the set for each child, 1.001 to 1.003 times, with all of these.
//
//	degree of the tree, links                   1, 20 Mbit/s  2     4     1, 100 Mbit/s  2
//	page and relay of 8 loop devices each       1.13          2.16  4.26  2.3            2.3
//	16 loop devices for both                    3.6           3.3         4.5            4.9
//	one disk of LIO's tcm_loop over fileio      6.7           4.5         7.3            4.6
//	one loop device for both                                              14.3           6.1
//
// At 100 Mbit/s two processors are the limit, which do the work of nine kernels. LIO's loopback
// fabric asks for whole requests, at half the processor time, but it too does one at a time
// for a device and processor; and its disks are writable and searched for partitions, that is,
// a guest's. Larger chunks of dm-snapshot would make longer requests of reads, and a write
// of 4 KiB would first read 16 or 64 KiB of the image, from the parent.
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
// Copies that belong together (a consistent group of volumes) are made while all their
// sources are suspended at once. A user who writes to one volume only after a write to
// another was acknowledged finds no later write without the earlier one in the copies: the
// first volume that is suspended holds up all that depends on it. What an earlier attempt has
// left of them is deleted before; if one can't be made, none remains, all sources go on, and
// all copies are reported as failed.
//
// A volume grows from the bottom up: cow, base, volume, export; dm-snapshot hands its
// exceptions over to the new table (drivers/md/dm-snap.c, __find_snapshots_sharing_cow).
//
// What long work reads (an upload, a backup: [TaskWorker]) is such a copy too, under devices of
// its own that can't be written to:
//
//	cow        thin snapshot of the volume's; none where nothing was written
//	base       as a volume's
//	volume     snapshot(base, cow, persistent), base alone, cow alone, or zeros
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
