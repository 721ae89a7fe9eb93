package image

import "encoding/binary"

const sector = 512

// partition is one entry of a master boot record's table, in sectors.
type partition struct {
	kind        byte // 0x0c FAT32/16 LBA, 0x83 Linux
	active      bool
	start, size uint32
}

// mbr is a master boot record: boot code of at most 440 bytes, a disk signature and up
// to four primary partitions. The cylinder fields say "too large": readers take the
// sector numbers.
func mbr(code []byte, signature uint32, parts []partition) [sector]byte {
	var b [sector]byte
	copy(b[:440], code)
	binary.LittleEndian.PutUint32(b[440:], signature)
	for i, p := range parts {
		e := b[446+16*i:]
		if p.active {
			e[0] = 0x80
		}
		copy(e[1:4], []byte{0xfe, 0xff, 0xff})
		e[4] = p.kind
		copy(e[5:8], []byte{0xfe, 0xff, 0xff})
		binary.LittleEndian.PutUint32(e[8:], p.start)
		binary.LittleEndian.PutUint32(e[12:], p.size)
	}
	b[510], b[511] = 0x55, 0xaa
	return b
}
