package bench

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"
)

// message in the form of PostgreSQL's clients; kind 0 for the first.
func message(kind byte, body string) []byte {
	var b []byte
	if kind != 0 {
		b = append(b, kind)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)+4))
	return append(b, body...)
}

func TestMessagesAreCounted(t *testing.T) {
	stream := bytes.Join([][]byte{
		message(0, "\x00\x03\x00\x00user\x00p\x00\x00"), message('Q', "BEGIN\x00"), message('P', "\x00SELECT 'E'\x00\x00\x00"),
		message('B', "EEEEEQ"), message('D', "P\x00"), message('E', "\x00\x00\x00\x00\x00"), message('S', ""), message('Q', "COMMIT\x00"), message('X', ""),
	}, nil)
	for _, size := range []int{1, 3, 7, len(stream)} {
		var got []byte
		m := &pgMessages{see: func(kind byte) { got = append(got, kind) }}
		for rest := stream; len(rest) > 0; rest = rest[min(size, len(rest)):] {
			if n, err := m.Write(rest[:min(size, len(rest))]); err != nil || n != min(size, len(rest)) {
				t.Fatalf("in pieces of %d: %d, %v", size, n, err)
			}
		}
		if string(got) != "QPBDESQX" {
			t.Errorf("in pieces of %d: %s", size, got)
		}
	}
	if _, err := (&pgMessages{see: func(byte) {}}).Write([]byte{0, 0, 0, 1}); err == nil {
		t.Error("a length below its own was taken")
	}
}

func TestParseStat(t *testing.T) {
	line := "4242 (postgres: a) b) S 17 4242 4242 0 -1 4194304 100 2 3 4 250 50 7 3 20 0 1 0 9 1 2"
	got, err := parseStat(line)
	if want := (procStat{parent: 17, own: 3 * time.Second, children: 100 * time.Millisecond}); err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	for _, bad := range []string{"", "1 (x", "1 (x) S 1 2", "1 (x) S a 1 1 0 -1 0 0 0 0 0 1 1 1 1 20"} {
		if _, err := parseStat(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
