// Package bcache caches images with the kernel's bcache: one cache set on one local disk
// for all images of the node, with one LRU (Documentation/admin-guide/bcache.rst).
//
// # What stands
//
//	/dev/bcacheN             what the page layer reads, read-only
//	vmthunder-image-ID-back  linear: 16 sectors of Local[0], then the upstream
//	Local[0]                 64 KiB, holds the superblock
//	set                      /sys/fs/bcache/UUID on the configured device
//
// The upstream must not be written to, and bcache wants a superblock at the head of
// what it caches: so its first 16 sectors are another device. bcache writes nothing but
// that superblock by itself: /dev/bcacheN is read-only, so that no write comes to it and nothing is
// ever dirty, whatever the mode; the mode is writearound all the same.
//
// Superblocks are written here and not by make-bcache, which on some
// distributions is another program with other options, or not there.
//
// # Whose content it is
//
// A set keeps a table from the UUID of a backing device to a number, and its content under
// that number. A number is never used again in the life of a set. Each generation of
// an image's local device (Fresh, a blank or foreign superblock, another set, forget) gets a
// random UUID, therefore a number of its own, and can't see what is cached under any
// other. A superblock is kept only if its label is the image, its set is the set that stands
// and its state is clean; only then does content outlive a stop or a reboot.
//
// After a power cut the set is consistent too, but without what was read last: bcache does not put
// into its journal what reads have cached, and writes its tree after 30 s. That is read
// from the upstream again.
//
// The table has one entry for each 128 bytes of a bucket (4096 with buckets of 512 KiB),
// and never gives one back. When it is full, and no image is attached, the set is made anew;
// while images are attached, a further one is served without being cached, and
// [Cache.Degraded] says so.
//
// # What is kept of a miss
//
// A read that misses is answered from the upstream, and kept if a bucket is free at that moment. If
// none is, the kernel drops it rather than wait (bch_data_insert_start in
// drivers/md/bcache/request.c), and the next read of it misses again. Every bucket, a blank one
// too, has to be made free by the set's allocator, which writes all priorities to the disk
// for every few of them; it has one bucket in 1024 ready, and at most eight times as many on the way. So
// it is 256 KiB that a set of 256 MiB can always take at once, and 128 MiB with one of
// 100 GiB. Only a small set on a busy machine is seen to need a third or fourth reading.
// No attribute of the kernel changes that; the share is the same with buckets of any size.
//
// # When the cache disk fails
//
// The kernel takes the set down and lets the devices go on without it, since nothing is
// dirty. [Cache.Start] on such a device attaches it again when the set is back. An image
// whose set is unavailable is started without one. [Cache.Degraded] tells.
package bcache
