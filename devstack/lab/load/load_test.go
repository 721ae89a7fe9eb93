package load

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
)

const blocks = 64

// bench is a file as a device, with a base of half its size.
type bench struct {
	o    Options
	r    *Record
	file *os.File
}

func newBench(t *testing.T) *bench {
	t.Helper()
	base := make([]byte, blocks/2*BlockSize)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(base)
	b := &bench{r: NewRecord(), o: Options{
		Device: filepath.Join(t.TempDir(), "device"), Base: filepath.Join(t.TempDir(), "base"), Volume: uuid.New(), Blocks: blocks, Seed: 7, First: 1, Count: 200,
	}}
	if err := os.WriteFile(b.o.Base, base, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.o.Device, append(base, make([]byte, blocks/2*BlockSize)...), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if b.file, err = os.OpenFile(b.o.Device, os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.file.Close() })
	return b
}

func (b *bench) run(t *testing.T) {
	t.Helper()
	var out bytes.Buffer
	if err := Run(t.Context(), b.o, &out); err != nil {
		t.Fatal(err)
	}
	b.r.Begin(b.o.Scan)
	ended, err := b.r.Follow(&out)
	if err != nil || !ended {
		t.Fatal(ended, err)
	}
	<-b.r.Ready
}

// scan is a look at all blocks.
func (b *bench) scan(t *testing.T) {
	t.Helper()
	b.o.Scan, b.o.Count = true, 0
	b.run(t)
}

func TestSound(t *testing.T) {
	b := newBench(t)
	b.run(t)
	if b.r.Writes+b.r.Reads != 200 || b.r.Writes < 50 || b.r.Reads < 50 || len(b.r.Waits) != 200 || b.r.Last != uint64(b.r.Writes) {
		t.Errorf("%d writes, %d reads, %d waits, last %d", b.r.Writes, b.r.Reads, len(b.r.Waits), b.r.Last)
	}
	before := fmt.Sprint(b.r.Acked)
	b.scan(t)
	if got := fmt.Sprint(b.r.Acked); got != before {
		t.Errorf("acknowledged were %s, found %s", before, got)
	}
	b.o.First, b.o.Count = b.r.Last+1, 100 // and on
	b.run(t)
	b.scan(t)
	if len(b.r.Errors)+len(b.r.Wrong) > 0 {
		t.Error(b.r.Errors, b.r.Wrong)
	}
}

// What a load must find: each of these is done to a device behind its back.
func TestFound(t *testing.T) {
	for name, x := range map[string]struct {
		harm func(t *testing.T, b *bench, acked uint64)
		want string
	}{
		"a write is lost": {func(_ *testing.T, b *bench, acked uint64) { b.base(acked) }, "lost: write"},
		"an older write is back": {func(_ *testing.T, b *bench, acked uint64) {
			b.put(b.o.Volume, acked, acked, 1)
			b.r.Acked[acked] = max(b.r.Acked[acked], 2)
		}, "lost: write"},
		"another block's":  {func(_ *testing.T, b *bench, acked uint64) { b.put(b.o.Volume, acked, acked+1, 5) }, "block"},
		"another volume's": {func(_ *testing.T, b *bench, acked uint64) { b.put(uuid.Nil, acked, acked, 5) }, uuid.Nil.String()},
		"torn": {func(t *testing.T, b *bench, acked uint64) {
			if _, err := b.file.WriteAt(make([]byte, 512), int64(acked)*BlockSize+1024); err != nil {
				t.Fatal(err)
			}
		}, "torn"},
		"zeros in the base": {func(_ *testing.T, b *bench, _ uint64) {
			for i := range uint64(blocks / 2) {
				if b.r.Acked[i] == 0 {
					b.zero(i)
				}
			}
		}, "zeros"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.o.Count = 40
			b.run(t)
			for acked := range b.r.Acked {
				x.harm(t, b, acked)
				break
			}
			b.scan(t)
			if len(b.r.Wrong) == 0 || !strings.Contains(strings.Join(b.r.Wrong, "\n"), x.want) {
				t.Errorf("found %q", b.r.Wrong)
			}
		})
	}
}

func (b *bench) put(v uuid.UUID, at, block, seq uint64) {
	x := make([]byte, BlockSize)
	fill(x, v, block, seq)
	_, _ = b.file.WriteAt(x, int64(at)*BlockSize)
}

func (b *bench) zero(at uint64) { _, _ = b.file.WriteAt(make([]byte, BlockSize), int64(at)*BlockSize) }

func (b *bench) base(at uint64) {
	all, _ := os.ReadFile(b.o.Base)
	all = append(all, make([]byte, blocks*BlockSize)...)
	_, _ = b.file.WriteAt(all[at*BlockSize:(at+1)*BlockSize], int64(at)*BlockSize)
}

// A load while it runs sees it, too; and it ends when it is told to.
func TestFoundWhileRunning(t *testing.T) {
	b := newBench(t)
	b.o.Count = -1
	for i := range uint64(blocks) {
		b.put(uuid.Nil, i, i, 9)
	}
	ctx, stop := context.WithCancel(t.Context())
	var out bytes.Buffer
	err := Run(ctx, b.o, writer(func(p []byte) (int, error) {
		if strings.HasPrefix(string(p), "bad") {
			stop()
		}
		return out.Write(p)
	}))
	b.r.Begin(false)
	ended, ferr := b.r.Follow(&out)
	if err != nil || ferr != nil || !ended || len(b.r.Wrong) == 0 {
		t.Error(err, ferr, ended, b.r.Wrong)
	}
}

type writer func(p []byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// A device that fails is told of, and is no wrong byte.
func TestErrors(t *testing.T) {
	b := newBench(t)
	if err := b.file.Truncate(blocks / 2 * BlockSize); err != nil {
		t.Fatal(err)
	}
	b.o.Scan, b.o.Count = true, 0
	b.run(t)
	if len(b.r.Errors) != blocks/2 || len(b.r.Wrong) != 0 {
		t.Errorf("%d errors, wrong %q", len(b.r.Errors), b.r.Wrong)
	}
	b.o.Device += ".none"
	if err := Run(t.Context(), b.o, &bytes.Buffer{}); err == nil {
		t.Error("there is no such device")
	}
	b.r.Begin(false)
	if _, err := b.r.Follow(strings.NewReader("w 1\n")); err == nil {
		t.Error("no line of a load")
	}
}
