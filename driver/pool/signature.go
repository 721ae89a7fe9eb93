package pool

import (
	"bytes"
	"encoding/binary"
)

// signatures are known starts of other people's devices: offset and bytes.
var signatures = []struct {
	what string
	at   int
	text string
}{
	{"an LVM physical volume", 512, "LABELONE"},
	{"a GPT partition table", 512, "EFI PART"},
	{"an XFS file system", 0, "XFSB"},
	{"a LUKS container", 0, "LUKS\xba\xbe"},
	{"a qcow2 image", 0, "QFI\xfb"},
	{"a btrfs file system", 0x10040, "_BHRfS_M"},
	{"an ext2/3/4 file system", 0x438, "\x53\xef"},
	{"swap space", 4086, "SWAPSPACE2"},
	{"an md RAID member", 4096, "\xfc\x4e\x2b\xa9"},
	{"an md RAID member", 0, "\xfc\x4e\x2b\xa9"},
	{"a bcache device", 4096 + 24, "\xc6\x85\x73\xf6\x4e\x1a\x45\xca"},
	{"a dm-snapshot store", 0, "SnAp"},
	{"an ISO 9660 file system", 0x8001, "CD001"},
	{"a VMThunder pool", 0, magic},
	{"a VMThunder pool", secondAt, magic},
	{"a partition table or boot sector", 510, "\x55\xaa"},
}

// looksLike names what the beginning of a device looks like.
func looksLike(begin []byte) string {
	for _, s := range signatures {
		if end := s.at + len(s.text); end <= len(begin) && string(begin[s.at:end]) == s.text {
			return s.what
		}
	}
	if i := bytes.IndexFunc(begin, func(r rune) bool { return r != 0 }); i >= 0 {
		return "data of an unknown kind"
	}
	return "data near its end or middle (an old RAID or GPT copy?)"
}

// The kernel's superblock of thin metadata: drivers/md/dm-thin-metadata.c.
const (
	thinMagicAt = 32
	thinMagic   = 27022010
)

// hasThinSuperblock tells whether b begins thin metadata.
func hasThinSuperblock(b []byte) bool {
	return len(b) >= thinMagicAt+8 && binary.LittleEndian.Uint64(b[thinMagicAt:]) == thinMagic
}
