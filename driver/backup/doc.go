// Package backup keeps what volumes hold in a [driver.ObjectStore], cut into chunks of
// equal size.
//
// # Layout
//
// A backup is a prefix in the store, below which there are
//
//	PREFIX/chunks/HH/HASH   a chunk; HH are the first two digits of HASH
//	PREFIX/manifest         which chunk is where, written last
//
// HASH is the SHA-256 of a chunk's bytes in hexadecimal digits, or, where backups are
// encrypted, their HMAC-SHA-256 under a key. A chunk of zeros is not stored, a chunk that
// occurs twice is stored once. Without a manifest there is no backup: one that was
// interrupted anywhere is complete or absent, and what it has left is found again by its
// prefix, to be gone on with or deleted.
//
// # Increments
//
// An increment stores the chunks that its parent's manifest does not know, and names the
// prefixes that the others are under. So nothing that a backup has stored is needed by any
// but its descendants: a backup that has none is deleted with its whole prefix, and no
// chunk need be looked for in other manifests. A backup that is no increment shares
// nothing with any other, so that a damaged chunk is in one chain alone.
//
// # Objects
//
// Chunks and manifests are objects of one form, integers in network byte order:
//
//	 0  4  "VMTB"
//	 4  1  version, 1
//	 5  1  kind: 1 chunk, 2 manifest
//	 6  1  compression: 0 none, 1 zstd (RFC 8878)
//	 7  1  encryption: 0 none, 1 AES-256-GCM
//	 8  4  length of the content in bytes
//	12 32  hash of the content, as above
//	44  .  the content; compressed, then encrypted: 12 bytes nonce, ciphertext, 16 bytes tag
//
// The key of an encrypted object is the HMAC-SHA-256 of its hash under a key of the
// repository's, so that no two contents share one, and the first 44 bytes are authenticated.
// The keys of hashes and contents are derived from the configured one by HKDF-SHA-256.
//
// A manifest's content is a line of JSON, see [Header], and for every chunk that is not
// all zeros, in ascending order, 40 bytes: its number (4), the number of its prefix in the
// header's list (4), its hash (32).
package backup
