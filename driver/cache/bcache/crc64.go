package bcache

// crcPoly is the polynomial of ECMA-182, most significant bit first.
const crcPoly = 0x42f0e1eba9ea3693

// crc64 is bch_crc64 of the kernel (lib/crc64.c, crc64_be with all bits set before
// and after). Package hash/crc64 has only the reflected form.
func crc64(b []byte) uint64 {
	crc := ^uint64(0)
	for _, c := range b {
		crc ^= uint64(c) << 56
		for range 8 {
			if crc>>63 != 0 {
				crc = crc<<1 ^ crcPoly
			} else {
				crc <<= 1
			}
		}
	}
	return ^crc
}
