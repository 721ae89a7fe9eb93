package drivertest

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/vmthunder/vmthunder/driver"
)

// CacheBed is the ground that a cache driver is tested on. Whatever it makes it removes at the end
// of the test, in reverse order.
type CacheBed interface {
	// Cache is the driver. Images it has started are stopped by the suite.
	Cache() driver.Cache
	// Upstream makes a read-only device that holds content, and returns its path.
	Upstream(t *testing.T, content []byte) string
	// Traffic is how many sectors of an upstream were read and written.
	Traffic(t *testing.T, upstream string) (read, written uint64)
	// Local makes the local devices that were asked for. What they hold is any
	// old bytes, since a Fresh cache must not care.
	Local(t *testing.T, needs []driver.LocalDevice) []string
	// Sectors is the size of a device.
	Sectors(t *testing.T, path string) uint64
	// ReadAt reads around the page cache; off and len(p) are multiples of 4096.
	ReadAt(t *testing.T, path string, p []byte, off int64)
	// Open opens a device, until close is called.
	Open(t *testing.T, path string) (closeIt func())
}

// CacheTraits is what a driver promises beyond the contract.
type CacheTraits struct {
	// Stalls is how many passes over the same reads may follow each other without the upstream
	// being read less than ever before, until the cache is warm: 1 for one that keeps whatever
	// it misses, more for one that drops some of it, or decides in its own time; 0 for a
	// driver that does not cache. How many passes it takes in all is no promise.
	Stalls int
	// Residue is the part of a pass, 0 to 1, that may still come from upstream when the cache is warm: 0 for
	// one that caches what was read, more for one whose policy decides what is worth it.
	Residue float64
	// Keeps says that content outlives a stop.
	Keeps bool
	// Transparent says that the cached device is the upstream itself, and nothing ever stands.
	Transparent bool
}

const (
	cacheImageBytes = 16 << 20
	cacheImageA     = "2f0d7c7e-6f1c-4b0e-9d55-3a1f9a6b0c01"
	cacheImageB     = "2f0d7c7e-6f1c-4b0e-9d55-3a1f9a6b0c02"
)

// cacheRead is one read of a pass.
type cacheRead struct{ off, n int64 }

// cacheReads are reads of 4 to 64 KiB, none of them twice, of about half of the image.
func cacheReads(seed uint64) []cacheRead {
	rnd := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // test data
	var reads []cacheRead
	for off := int64(0); off < cacheImageBytes-64<<10; {
		n := (1 + rnd.Int64N(16)) * 4096
		reads = append(reads, cacheRead{off, n})
		off += n + rnd.Int64N(16)*4096
	}
	rnd.Shuffle(len(reads), func(i, j int) { reads[i], reads[j] = reads[j], reads[i] })
	return reads
}

// cacheContent has no two equal blocks, so that a block in the wrong place is seen.
func cacheContent(seed uint64) []byte {
	b := make([]byte, cacheImageBytes)
	rnd := rand.NewChaCha8([32]byte{byte(seed), 7})
	_, _ = rnd.Read(b) // never fails
	return b
}

type cacheCase struct {
	t   *testing.T
	bed CacheBed
	c   driver.Cache

	traits CacheTraits
}

// image is one image on the bed.
type cacheImage struct {
	cacheCase
	spec    driver.CacheSpec
	content []byte
	reads   []cacheRead
}

func (c cacheCase) image(id string, seed uint64, local []string) *cacheImage {
	c.t.Helper()
	content := cacheContent(seed)
	spec := driver.CacheSpec{ImageID: id, Sectors: cacheImageBytes / 512, Fresh: true, Local: local}
	spec.Upstream = c.bed.Upstream(c.t, content)
	if local == nil {
		spec.Local = c.bed.Local(c.t, c.c.Needs(spec.Sectors))
	}
	c.t.Cleanup(func() {
		if _, written := c.bed.Traffic(c.t, spec.Upstream); written != 0 {
			c.t.Errorf("%d sectors were written to the upstream", written)
		}
	})
	return &cacheImage{cacheCase: c, spec: spec, content: content, reads: cacheReads(seed)}
}

func (i *cacheImage) start() string {
	i.t.Helper()
	path, err := i.c.Start(i.t.Context(), i.spec)
	if err != nil {
		i.t.Fatal(err)
	}
	i.t.Cleanup(func() {
		ctx, cancel := driver.Teardown(i.t.Context())
		defer cancel()
		if err := i.c.Stop(ctx, i.spec, false); err != nil {
			i.t.Error(err)
		}
	})
	i.spec.Fresh = false
	return path
}

func (i *cacheImage) stop(forget bool) {
	i.t.Helper()
	if err := i.c.Stop(i.t.Context(), i.spec, forget); err != nil {
		i.t.Fatal(err)
	}
}

// pass reads and compares, and returns the sectors that were read from upstream meanwhile.
func (i *cacheImage) pass(path string) uint64 {
	i.t.Helper()
	before, _ := i.bed.Traffic(i.t, i.spec.Upstream)
	for _, r := range i.reads {
		i.compare(path, r)
	}
	after, _ := i.bed.Traffic(i.t, i.spec.Upstream)
	return after - before
}

func (i *cacheImage) compare(path string, r cacheRead) {
	i.t.Helper()
	got := make([]byte, r.n)
	i.bed.ReadAt(i.t, path, got, r.off)
	if !bytes.Equal(got, i.content[r.off:r.off+r.n]) {
		i.t.Fatalf("image %s: %d bytes at %d are not those of the upstream", i.spec.ImageID, r.n, r.off)
	}
}

// volume is how many sectors a pass reads.
func (i *cacheImage) volume() (sectors uint64) {
	for _, r := range i.reads {
		sectors += uint64(r.n) / 512
	}
	return sectors
}

// warm passes until the upstream is quiet, as long as passes bring it nearer to that.
func (i *cacheImage) warm(path string) {
	i.t.Helper()
	if i.traits.Stalls == 0 {
		i.pass(path)
		return
	}
	var seen []float64
	least, stalls := uint64(math.MaxUint64), 0
	for stalls < i.traits.Stalls {
		read := i.pass(path)
		seen = append(seen, float64(read)/2048)
		if i.quiet(read, 0) {
			i.t.Logf("%s: %.1f MiB per pass, upstream traffic in MiB: %.2f", i.c.Name(), float64(i.volume())/2048, seen)
			return
		}
		stalls++
		if read < least {
			least, stalls = read, 0
		}
	}
	i.t.Errorf("%s: %.1f MiB per pass, upstream traffic in MiB: %.2f: %d passes without progress, and the cache is not warm",
		i.c.Name(), float64(i.volume())/2048, seen, stalls)
}

// quiet tells whether what a pass read from upstream is what a warm cache lets through, and
// no more than a part of a pass beyond that.
func (i *cacheImage) quiet(read uint64, beyond float64) bool {
	return float64(read) <= (i.traits.Residue+beyond)*float64(i.volume())
}

// lost tells whether what a pass read from upstream is more than a warm cache lets through.
func (i *cacheImage) lost(read uint64) bool { return i.traits.Stalls > 0 && !i.quiet(read, 0.1) }

// Cache is the conformance suite of driver.Cache. makeBed is called once for each part of it.
func Cache(t *testing.T, makeBed func(t *testing.T) CacheBed, traits CacheTraits) {
	for _, part := range []struct {
		name string
		run  func(cacheCase)
	}{
		{"ReadsThrough", cacheReadsThrough},
		{"StartsTwice", cacheStartsTwice},
		{"BusyWhileOpen", cacheBusy},
		{"StopsAndStartsAgain", cacheRestart},
		{"Forgets", cacheForgets},
		{"FreshNeverShowsOldBytes", cacheFresh},
		{"IdentityIsTheImage", cacheIdentity},
		{"TwoImages", cacheTwo},
	} {
		t.Run(part.name, func(t *testing.T) {
			bed := makeBed(t)
			part.run(cacheCase{t, bed, bed.Cache(), traits})
		})
	}
}

func cacheReadsThrough(c cacheCase) {
	i := c.image(cacheImageA, 1, nil)
	if _, err := c.c.Find(c.t.Context(), cacheImageA); !errors.Is(err, driver.ErrNotFound) {
		c.t.Errorf("Find before Start: %v", err)
	}
	for n, l := range c.c.Needs(i.spec.Sectors) {
		if l.Sectors == 0 || l.Sectors%8 != 0 || l.Suffix == "" || n >= driver.MaxLocalDevices {
			c.t.Errorf("Needs asks for %+v", l)
		}
	}
	path := i.start()
	if got := c.bed.Sectors(c.t, path); got < i.spec.Sectors {
		c.t.Errorf("the cached device has %d sectors, the upstream %d", got, i.spec.Sectors)
	}
	i.warm(path)
	i.compare(path, cacheRead{0, cacheImageBytes}) // the rest too, the last block among it
	if c.traits.Transparent {
		return
	}
	if got, err := c.c.Find(c.t.Context(), cacheImageA); got != path || err != nil {
		c.t.Errorf("Find = %q, %v, want %q", got, err, path)
	}
	if _, err := c.c.Stats(c.t.Context(), cacheImageA); err != nil {
		c.t.Error(err)
	}
	i.stop(false)
	if _, err := c.c.Find(c.t.Context(), cacheImageA); !errors.Is(err, driver.ErrNotFound) {
		c.t.Errorf("Find after Stop: %v", err)
	}
	if _, err := c.c.Stats(c.t.Context(), cacheImageA); !errors.Is(err, driver.ErrNotFound) {
		c.t.Errorf("Stats after Stop: %v", err)
	}
	i.stop(false)
}

func cacheStartsTwice(c cacheCase) {
	i := c.image(cacheImageA, 1, nil)
	path := i.start()
	i.warm(path)
	if again := i.start(); again != path {
		c.t.Errorf("second Start returned %q, the first %q", again, path)
	}
	if read := i.pass(path); i.lost(read) {
		c.t.Errorf("a second Start lost content: %d sectors were read again", read)
	}
}

func cacheBusy(c cacheCase) {
	if c.traits.Transparent {
		return
	}
	i := c.image(cacheImageA, 1, nil)
	path := i.start()
	closeIt := c.bed.Open(c.t, path)
	for _, forget := range []bool{false, true} {
		if err := c.c.Stop(c.t.Context(), i.spec, forget); !errors.Is(err, driver.ErrBusy) {
			c.t.Errorf("Stop(forget=%v) while open: %v", forget, err)
		}
	}
	i.pass(path)
	if got, err := c.c.Find(c.t.Context(), cacheImageA); got != path || err != nil {
		c.t.Errorf("Find after a Stop that was refused = %q, %v", got, err)
	}
	closeIt()
	i.stop(false)
}

func cacheRestart(c cacheCase) {
	i := c.image(cacheImageA, 1, nil)
	i.warm(i.start())
	i.stop(false)
	read := i.pass(i.start())
	c.t.Logf("%s: %.2f of %.2f MiB read from upstream after a restart", c.c.Name(), float64(read)/2048, float64(i.volume())/2048)
	if c.traits.Keeps && i.lost(read) {
		c.t.Errorf("content was lost: %d of %d sectors read from upstream", read, i.volume())
	}
	if !c.traits.Keeps && read < i.volume() {
		c.t.Errorf("content was kept: %d of %d sectors read from upstream", read, i.volume())
	}
}

func cacheForgets(c cacheCase) {
	i := c.image(cacheImageA, 1, nil)
	i.warm(i.start())
	i.stop(true)
	i.stop(true) // not there: success
	if read := i.pass(i.start()); read < i.volume() {
		c.t.Errorf("content was kept: %d of %d sectors read from upstream", read, i.volume())
	}
}

// cacheFresh uses the same local devices for another content: of the same image id (another
// generation) and of another one.
func cacheFresh(c cacheCase) {
	first := c.image(cacheImageA, 1, nil)
	first.warm(first.start())
	first.stop(false)
	for n, id := range []string{cacheImageA, cacheImageB, cacheImageA} {
		i := c.image(id, uint64(n)+2, first.spec.Local)
		path := i.start()
		i.warm(path)
		i.compare(path, cacheRead{0, cacheImageBytes})
		i.stop(false)
	}
}

// cacheIdentity starts another image on devices that still hold the first one's, without
// saying that they are fresh.
func cacheIdentity(c cacheCase) {
	first := c.image(cacheImageA, 1, nil)
	first.warm(first.start())
	first.stop(false)
	second := c.image(cacheImageB, 2, first.spec.Local)
	second.spec.Fresh = false
	second.compare(second.start(), cacheRead{0, cacheImageBytes})
}

func cacheTwo(c cacheCase) {
	images := []*cacheImage{c.image(cacheImageA, 1, nil), c.image(cacheImageB, 2, nil)}
	paths := []string{images[0].start(), images[1].start()}
	for range 3 {
		var wg sync.WaitGroup
		for n, i := range images {
			for _, half := range [][]cacheRead{i.reads[:len(i.reads)/2], i.reads[len(i.reads)/2:]} {
				wg.Go(func() {
					for _, r := range half {
						got := make([]byte, r.n)
						c.bed.ReadAt(c.t, paths[n], got, r.off)
						if !bytes.Equal(got, i.content[r.off:r.off+r.n]) {
							c.t.Errorf("image %d: wrong bytes at %d", n, r.off)
							return
						}
					}
				})
			}
		}
		wg.Wait()
	}
	if !c.traits.Transparent && slices.Equal(paths[:1], paths[1:]) {
		c.t.Error("two images, one device")
	}
	images[1].warm(paths[1])
	images[0].stop(true)
	if read := images[1].pass(paths[1]); images[1].lost(read) {
		c.t.Errorf("forgetting one image lost content of another: %d sectors read again", read)
	}
}
