package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"time"
	"unsafe"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"
)

// Options of a load; as JSON they are the program's one argument.
type Options struct {
	Device string
	Volume uuid.UUID
	Blocks int           // of BlockSize that are used, from the device's beginning
	Base   string        // file whose bytes the device begins with, zeros after it; "" is zeros only
	Seed   uint64        // of what is done
	First  uint64        // sequence number of the first write, from 1
	Gap    time.Duration // between two operations
	// Scan reads all blocks before the load begins, to learn what they hold; without it they are as Base.
	Scan bool
	// Count of operations, after which the load ends; negative: it ends when its input does.
	Count int
}

// Run does the load until ctx ends, with a line for each thing that happens:
//
//	k BLOCK SEQ       the block holds what was written by that sequence number (scan)
//	ready             the scan is over
//	w BLOCK SEQ       a write begins
//	a BLOCK SEQ MICROS  it is on the device, flushed
//	r BLOCK MICROS    a read has given what it should
//	e OP BLOCK WORDS  an operation has failed
//	bad BLOCK WORDS   the block holds other bytes than it should
//	end
//
// Writes are direct and synchronous (O_DIRECT and O_DSYNC), so that "a" is a promise of the device.
func Run(ctx context.Context, o Options, out io.Writer) error {
	f, err := os.OpenFile(o.Device, os.O_RDWR|unix.O_DIRECT|unix.O_DSYNC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	l := &load{Options: o, f: f, out: bufio.NewWriter(out), block: aligned(), held: make([]uint64, o.Blocks)}
	if o.Base != "" {
		if l.base, err = os.Open(o.Base); err != nil {
			return err
		}
		defer func() { _ = l.base.Close() }()
	}
	if o.Scan {
		for b := range o.Blocks {
			if ctx.Err() != nil {
				break
			}
			l.scan(uint64(b))
		}
	}
	l.say("ready")
	rng := rand.New(rand.NewPCG(o.Seed, o.First))
	seq := o.First
	for n := 0; n != o.Count && ctx.Err() == nil && l.err == nil; n++ {
		b := uint64(rng.IntN(o.Blocks))
		if rng.IntN(2) == 0 {
			l.write(b, seq)
			seq++
		} else {
			l.read(b)
		}
		select {
		case <-ctx.Done():
		case <-time.After(o.Gap):
		}
	}
	l.say("end")
	return l.err
}

type load struct {
	Options
	f, base *os.File
	out     *bufio.Writer
	block   []byte
	held    []uint64 // by block: the sequence number that it was written by; 0: as base
	unsure  map[uint64]uint64
	err     error // of the output
}

// say a line at once; what it tells must have left before what comes next is done.
func (l *load) say(words ...string) {
	if l.err != nil {
		return
	}
	for i, w := range words {
		if i > 0 {
			_ = l.out.WriteByte(' ')
		}
		_, _ = l.out.WriteString(w)
	}
	_ = l.out.WriteByte('\n')
	l.err = l.out.Flush()
}

func u(n uint64) string { return strconv.FormatUint(n, 10) }

func micros(since time.Time) string { return strconv.FormatInt(time.Since(since).Microseconds(), 10) }

// baseOf is what a block holds that nobody has written to.
func (l *load) baseOf(block uint64) ([]byte, error) {
	b := make([]byte, BlockSize)
	if l.base == nil {
		return b, nil
	}
	if _, err := l.base.ReadAt(b, int64(block)*BlockSize); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}

// get reads a block and tells what it holds.
func (l *load) get(block uint64) (seq uint64, ok bool, err error) {
	if _, err := l.f.ReadAt(l.block, int64(block)*BlockSize); err != nil {
		return 0, false, err
	}
	base, err := l.baseOf(block)
	if err != nil {
		return 0, false, fmt.Errorf("base: %w", err)
	}
	seq, ok = content(l.block, base, l.Volume, block)
	return seq, ok, nil
}

func (l *load) scan(block uint64) {
	seq, ok, err := l.get(block)
	switch {
	case err != nil:
		l.say("e", "scan", u(block), err.Error())
	case !ok:
		l.say("bad", u(block), describe(l.block))
	case seq > 0:
		l.held[block] = seq
		l.say("k", u(block), u(seq))
	}
}

func (l *load) write(block, seq uint64) {
	fill(l.block, l.Volume, block, seq)
	l.say("w", u(block), u(seq))
	began := time.Now()
	if _, err := l.f.WriteAt(l.block, int64(block)*BlockSize); err != nil {
		l.say("e", "write", u(block), err.Error())
		l.doubt(block, seq)
		return
	}
	l.held[block] = seq
	delete(l.unsure, block)
	l.say("a", u(block), u(seq), micros(began))
}

// doubt: after a write that failed a block may hold either.
func (l *load) doubt(block, seq uint64) {
	if l.unsure == nil {
		l.unsure = map[uint64]uint64{}
	}
	l.unsure[block] = seq
}

func (l *load) read(block uint64) {
	began := time.Now()
	seq, ok, err := l.get(block)
	took := micros(began)
	other, unsure := l.unsure[block]
	switch {
	case err != nil:
		l.say("e", "read", u(block), err.Error())
	case ok && (seq == l.held[block] || unsure && seq == other):
		l.say("r", u(block), took)
	default:
		l.say("bad", u(block), "wanted sequence "+u(l.held[block])+", found "+describe(l.block))
	}
}

// aligned is a block in memory that a direct operation may use.
func aligned() []byte {
	b := make([]byte, 2*BlockSize)
	at := int(-uintptr(unsafe.Pointer(&b[0])) & (BlockSize - 1)) //nolint:gosec // only its lowest bits matter
	return b[at : at+BlockSize : at+BlockSize]
}
