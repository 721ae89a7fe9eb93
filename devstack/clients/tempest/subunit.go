package tempest

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"
)

// A packet of subunit v2, the stream in which Python's test runners report
// (github.com/testing-cabal/subunit, README.rst, "Version 2"). All numbers are
// big-endian:
//
//	0xb3, flags uint16, length of the whole packet, [time], [test id], [tags],
//	[MIME type], [file name and content], [route], CRC-32 of all before
//
// Lengths have 1 to 4 bytes, the two highest bits saying how many follow the first.
type packet struct {
	at       time.Time // zero: not given
	test     string
	status   status
	file     string // name of the detail, "" if none
	content  []byte
	mimeType string
}

// status of a test in a packet.
type status uint8

const (
	statusNone status = iota
	statusExists
	statusInProgress
	statusSuccess
	statusUnexpectedSuccess
	statusSkip
	statusFail
	statusExpectedFailure
)

const (
	signature   = 0xb3
	version     = 0x2000
	versionMask = 0xf000
	flagTest    = 0x0800
	flagRoute   = 0x0400
	flagTime    = 0x0200
	flagTags    = 0x0080
	flagFile    = 0x0040
	flagMIME    = 0x0020
	statusMask  = 0x0007
	maxPacket   = 4 << 20 // bytes; the format allows no more
)

var errStream = errors.New("malformed subunit stream")

// readPackets calls f for every packet. Bytes between packets, which are what a test
// printed, are passed over.
func readPackets(r io.Reader, f func(packet)) error {
	in := bufio.NewReaderSize(r, 1<<16)
	for {
		b, err := in.ReadByte()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if b != signature {
			continue
		}
		raw, err := readRaw(in)
		if err != nil {
			return err
		}
		p, err := parsePacket(raw)
		if err != nil {
			return err
		}
		f(p)
	}
}

// readRaw reads a packet whose signature has been read, and checks its sum.
func readRaw(in *bufio.Reader) ([]byte, error) {
	head, err := in.Peek(3)
	if err != nil {
		return nil, fmt.Errorf("%w: it ends within a packet", errStream)
	}
	n := 1 + int(head[2]>>6) // bytes of the length
	if head, err = in.Peek(2 + n); err != nil {
		return nil, fmt.Errorf("%w: it ends within a packet", errStream)
	}
	length, _, err := number(head[2:])
	if err != nil {
		return nil, err
	}
	if length < 3+n+4 || length > maxPacket {
		return nil, fmt.Errorf("%w: a packet of %d bytes", errStream, length)
	}
	raw := make([]byte, length)
	raw[0] = signature
	if _, err := io.ReadFull(in, raw[1:]); err != nil {
		return nil, fmt.Errorf("%w: it ends within a packet", errStream)
	}
	body, sum := raw[:length-4], binary.BigEndian.Uint32(raw[length-4:])
	if crc32.ChecksumIEEE(body) != sum {
		return nil, fmt.Errorf("%w: checksum of a packet of %d bytes", errStream, length)
	}
	return body, nil
}

// parsePacket parses a packet without its sum.
func parsePacket(raw []byte) (packet, error) {
	flags := binary.BigEndian.Uint16(raw[1:])
	if flags&versionMask != version {
		return packet{}, fmt.Errorf("%w: version %d", errStream, flags>>12)
	}
	p := packet{status: status(flags & statusMask)}
	c := cursor{rest: raw[3:]}
	c.number() // the length
	if flags&flagTime != 0 {
		seconds := c.bytes(4)
		nanos := c.number()
		if c.err == nil {
			p.at = time.Unix(int64(binary.BigEndian.Uint32(seconds)), int64(nanos)).UTC()
		}
	}
	if flags&flagTest != 0 {
		p.test = c.text()
	}
	if flags&flagTags != 0 {
		for range c.number() {
			if c.text(); c.err != nil {
				break
			}
		}
	}
	if flags&flagMIME != 0 {
		p.mimeType = c.text()
	}
	if flags&flagFile != 0 {
		p.file = c.text()
		p.content = c.bytes(c.number())
	}
	if flags&flagRoute != 0 {
		c.text()
	}
	return p, c.err
}

// number reads a length at the start of b and says how many bytes it took.
func number(b []byte) (value, size int, err error) {
	if len(b) == 0 {
		return 0, 0, fmt.Errorf("%w: a length is missing", errStream)
	}
	size = 1 + int(b[0]>>6)
	if len(b) < size {
		return 0, 0, fmt.Errorf("%w: a length is cut off", errStream)
	}
	value = int(b[0] & 0x3f)
	for _, x := range b[1:size] {
		value = value<<8 | int(x)
	}
	return value, size, nil
}

// cursor reads the fields of a packet; after an error it reads zeros.
type cursor struct {
	rest []byte
	err  error
}

func (c *cursor) number() int {
	if c.err != nil {
		return 0
	}
	v, n, err := number(c.rest)
	if err != nil {
		c.err = err
		return 0
	}
	c.rest = c.rest[n:]
	return v
}

func (c *cursor) bytes(n int) []byte {
	if c.err != nil {
		return nil
	}
	if n > len(c.rest) {
		c.err = fmt.Errorf("%w: a field of %d bytes in %d", errStream, n, len(c.rest))
		return nil
	}
	b := c.rest[:n]
	c.rest = c.rest[n:]
	return b
}

func (c *cursor) text() string { return string(c.bytes(c.number())) }
