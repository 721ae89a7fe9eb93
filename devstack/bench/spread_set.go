package bench

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
)

// extent is a piece of an image, in bytes.
type extent struct{ at, size int64 }

// MarshalJSON writes the pair [at, size].
func (e extent) MarshalJSON() ([]byte, error) { return json.Marshal([2]int64{e.at, e.size}) }

const (
	extentUnit = 4 << 10
	extentMost = 16 // units: 64 KiB
)

// bootSet is what a booting machine reads of an image, in order: extents of 4 to 64 KiB,
// none twice, in random places, together exactly total bytes, which must be no more than
// the image has; both are multiples of 4 KiB. The image is cut into such pieces from end to
// end, these are shuffled, and the first are taken: in a set of half the image every
// other piece has its neighbour in the set, which is what tempts a read-ahead most. The
// same for a seed at every run.
func bootSet(seed uint64, image, total int64) []extent {
	r := rand.New(rand.NewPCG(seed, 0))
	var all []extent
	for at := int64(0); at < image; {
		size := min(extentUnit*(1+r.Int64N(extentMost)), image-at)
		all = append(all, extent{at, size})
		at += size
	}
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for i := range all {
		all[i].size = min(all[i].size, total)
		if total -= all[i].size; total == 0 {
			return all[:i+1]
		}
	}
	return all
}

// writeImage writes an image of random bytes: no holes, no zeros, no two blocks alike.
func writeImage(w io.Writer, size int64) error {
	_, err := io.CopyN(w, rand.NewChaCha8([32]byte{'s', 'p', 'r', 'e', 'a', 'd'}), size)
	return err
}

// setSum is what readers in the nodes must come to: the CRC-32 of the extents' CRC-32s,
// in order and each as eight hexadecimal digits.
func setSum(image io.ReaderAt, set []extent) (string, error) {
	sum := crc32.NewIEEE()
	buf := make([]byte, extentUnit*extentMost)
	for _, e := range set {
		if _, err := image.ReadAt(buf[:e.size], e.at); err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%08x", crc32.ChecksumIEEE(buf[:e.size]))
	}
	return fmt.Sprintf("%08x", sum.Sum32()), nil
}
