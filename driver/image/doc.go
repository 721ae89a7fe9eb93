// Package image keeps Glance's images as raw files in a directory, a
// [driver.ImageStore].
//
// # Files
//
// In the directory, for an image ID:
//
//	ID.part      its bytes as Glance has them, so far; holes where they are zero
//	ID.raw.tmp   what qemu-img has converted so far
//	ID.info      JSON: what ID.raw is; written before it
//	ID.raw       the image, raw, padded with zeros to a multiple of 4096
//
// A crash leaves some of the first three; the next Ensure goes on from ID.part
// (with HTTP's Range), hashing anew what is there, and does the rest again. ID.raw
// appears by a rename when all of it is on disk.
//
// # What is served
//
// The format that Glance claims is never believed (CVE-2024-32498, CVE-2022-47951,
// CVE-2015-5163): the bytes are inspected here first, and qemu-img is only told to open
// what was seen to be sound and to refer to no other file. An image claimed to be
// raw that looks like another format is refused: its content may name files of
// this host to whoever opens it with probing.
package image
