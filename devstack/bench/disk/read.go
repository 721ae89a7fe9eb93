package disk

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// buffer is memory that direct I/O can use: whole pages, not of Go's heap.
func buffer(bytes int) ([]byte, error) {
	return unix.Mmap(-1, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_POPULATE)
}

// oneByOne reads at one offset after the other and returns the ns that each read took.
func oneByOne(fd int, at []int64) ([]int64, error) {
	buf, err := buffer(ReadBytes)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Munmap(buf) }()
	ns := make([]int64, len(at))
	for i, offset := range at {
		t := now()
		n, err := unix.Pread(fd, buf, offset)
		ns[i] = now() - t
		if err != nil || n != ReadBytes {
			return nil, fmt.Errorf("read at %d: %d bytes, %w", offset, n, err)
		}
	}
	return ns, nil
}

func scan(fd int, offset, bytes int64) error {
	buf, err := buffer(1 << 20)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Munmap(buf) }()
	for end := offset + bytes; offset < end; {
		n, err := unix.Pread(fd, buf[:min(int64(len(buf)), end-offset)], offset)
		if err != nil || n == 0 {
			return fmt.Errorf("read at %d: %d bytes, %w", offset, n, err)
		}
		offset += int64(n)
	}
	return nil
}

// iocb and ioEvent are the structures of linux/aio_abi.h on 64-bit little-endian machines.
type iocb struct {
	data           uint64
	key, rwFlags   uint32
	opcode         uint16 // 0 reads
	priority       int16
	fd             uint32
	buf, bytes     uint64
	offset         int64
	_              uint64
	flags, eventFd uint32
}

type ioEvent struct {
	data, object    uint64
	result, result2 int64
}

// queue is a context of asynchronous I/O, with what is under way in it by slot.
type queue struct {
	id     uintptr
	fd     int
	buf    []byte
	blocks []iocb
	began  []int64 // ns
	index  []int   // of the read that a slot is for
	events []ioEvent
}

func newQueue(fd, depth int) (_ *queue, err error) {
	q := &queue{fd: fd, blocks: make([]iocb, depth), began: make([]int64, depth), index: make([]int, depth), events: make([]ioEvent, depth)}
	if q.buf, err = buffer(depth * ReadBytes); err != nil {
		return nil, err
	}
	if _, _, errno := unix.Syscall(unix.SYS_IO_SETUP, uintptr(depth), uintptr(unsafe.Pointer(&q.id)), 0); errno != 0 { //nolint:gosec // the kernel's interface
		return nil, errors.Join(fmt.Errorf("io_setup: %w", errno), unix.Munmap(q.buf))
	}
	return q, nil
}

// close waits for what is under way; only then the kernel has let go of the buffer.
func (q *queue) close() error {
	if _, _, errno := unix.Syscall(unix.SYS_IO_DESTROY, q.id, 0, 0); errno != 0 {
		return fmt.Errorf("io_destroy: %w", errno)
	}
	return unix.Munmap(q.buf)
}

// submit begins read number index in a free slot.
func (q *queue) submit(slot, index int, offset int64) error {
	q.blocks[slot] = iocb{
		data: uint64(slot), fd: uint32(q.fd), bytes: ReadBytes, offset: offset,
		buf: uint64(uintptr(unsafe.Pointer(&q.buf[slot*ReadBytes]))), //nolint:gosec // mapped, so it does not move
	}
	list := []*iocb{&q.blocks[slot]}
	q.index[slot], q.began[slot] = index, now()
	if _, _, errno := unix.Syscall(unix.SYS_IO_SUBMIT, q.id, 1, uintptr(unsafe.Pointer(&list[0]))); errno != 0 { //nolint:gosec // the kernel's interface
		return fmt.Errorf("io_submit: %w", errno)
	}
	return nil
}

// ended waits until a read has ended and returns all that have.
func (q *queue) ended() ([]ioEvent, error) {
	for {
		n, _, errno := unix.Syscall6(unix.SYS_IO_GETEVENTS, q.id, 1, uintptr(len(q.events)), uintptr(unsafe.Pointer(&q.events[0])), 0, 0) //nolint:gosec // the kernel's interface
		if errno == 0 {
			return q.events[:n], nil
		}
		if errno != unix.EINTR {
			return nil, fmt.Errorf("io_getevents: %w", errno)
		}
	}
}

// manyAtOnce is oneByOne with so many reads under way at any time, from one thread.
func manyAtOnce(fd int, at []int64, depth int) (ns []int64, err error) {
	depth = min(depth, len(at))
	q, err := newQueue(fd, depth)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, q.close()) }()
	for slot := range depth {
		if err := q.submit(slot, slot, at[slot]); err != nil {
			return nil, err
		}
	}
	ns = make([]int64, len(at))
	for next, left := depth, len(at); left > 0; {
		events, err := q.ended()
		if err != nil {
			return nil, err
		}
		t := now()
		for _, e := range events {
			slot := int(e.data)
			if e.result != ReadBytes {
				return nil, fmt.Errorf("read at %d: result %d", at[q.index[slot]], e.result)
			}
			ns[q.index[slot]] = t - q.began[slot]
			left--
			if next < len(at) {
				if err := q.submit(slot, next, at[next]); err != nil {
					return nil, err
				}
				next++
			}
		}
	}
	return ns, nil
}
