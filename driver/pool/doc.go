// Package pool is the driver.Pool of this program: a dm-thin pool on a disk,
// partition, logical volume or file that it owns.
//
// # Layout of the device
//
//	0        header, 4 KiB          what follows, a UUID, state, checksum
//	64 KiB   the same header again
//	1 MiB    dm-thin metadata       64 bytes for each block of data, 8 MiB at least
//	...      data
//
// The first sector of a header is all of it that counts, and a sector is written whole
// or not; two copies are kept in case one is damaged later.
//
// # Formatting
//
// Only a device that reads as zeros wherever anybody keeps a superblock is
// formatted: header with state formatting, then the first 4 KiB of the metadata are
// zeroed, which makes the kernel write its own superblock when the pool is
// activated, then header with state ready. A crash in between is seen in the state,
// and the formatting is done again. A pool that was ready is never formatted, whatever
// happened to its metadata.
//
// # Full pools
//
// Writes to a full pool are held back, and not for a minute as is the kernel's
// default but until there is room: the error they would get then makes a dm-snapshot on
// the pool invalid, which is the loss of a volume. Open sets dm_thin_pool's
// parameter no_space_timeout to 0 for that. New blocks are zeroed by the kernel,
// so that no volume shows what another one had.
//
// # What is in the pool
//
// The kernel has no message that lists thin devices; its own tools read them from the metadata.
// ListThins does the same, in a metadata snapshot that it takes and gives back.
package pool
