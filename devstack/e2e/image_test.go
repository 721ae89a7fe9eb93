//go:build lab

package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/devstack/lab"
)

// testImage is an image of random bytes that are known here.
type testImage struct {
	id    string
	bytes []byte
	sum   string // SHA-256 of bytes
}

// image makes an image of random bytes and puts it into Glance. The seed is printed.
func (s *site) image(t *testing.T, size int) testImage {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("image of %d MiB from seed %d", size/mib, seed)
	var key [32]byte
	copy(key[:], fmt.Sprintf("%032x", seed))
	b := make([]byte, size)
	_, _ = rand.NewChaCha8(key).Read(b)
	path := filepath.Join(s.lab.Dir(), fmt.Sprintf("image-%x.raw", seed))
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(path)
	id, err := s.lab.UploadImage(limit(t, time.Minute), fmt.Sprintf("random-%x", seed), "raw", path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	return testImage{id: id, bytes: b, sum: hex.EncodeToString(sum[:])}
}

// sum is the SHA-256 of so many bytes of a device, read past the node's page cache.
func (s *site) sum(t testing.TB, node, device string, offset, size int) string {
	t.Helper()
	out, err := s.trySum(t, node, device, offset, size)
	if err != nil {
		t.Fatalf("read %s at %s: %v", device, node, err)
	}
	return out
}

func (s *site) trySum(t testing.TB, node, device string, offset, size int) (string, error) {
	out, err := s.tryRun(t, node, fmt.Sprintf(
		"{ dd if=%s iflag=direct,skip_bytes,count_bytes,fullblock bs=1M skip=%d count=%d status=none || echo failed; } | sha256sum", device, offset, size))
	sum, _, _ := strings.Cut(out, " ")
	return sum, err
}

// same fails the test unless a device holds exactly these bytes at an offset. What differs
// is told by block.
func (s *site) same(t testing.TB, node, device string, offset int, want []byte) {
	t.Helper()
	sum := sha256.Sum256(want)
	if got := s.sum(t, node, device, offset, len(want)); got == hex.EncodeToString(sum[:]) {
		return
	}
	got := s.read(t, node, device, offset, len(want))
	var bad []string
	for i := 0; i < len(want); i += 4096 {
		if e := min(i+4096, len(want)); !bytes.Equal(got[i:min(e, len(got))], want[i:e]) {
			bad = append(bad, fmt.Sprint((offset+i)/4096))
		}
	}
	t.Errorf("%s: %s has other bytes than it should from %d on, in %d of %d blocks: %.200s", node, device, offset, len(bad), (len(want)+4095)/4096, strings.Join(bad, " "))
}

// read returns bytes of a device, read past the page cache.
func (s *site) read(t testing.TB, node, device string, offset, size int) []byte {
	t.Helper()
	var b, e bytes.Buffer
	code, err := s.node(t, node).Stream(limit(t, 2*time.Minute), lab.Command{Argv: []string{
		"dd", "if=" + device, "iflag=direct,skip_bytes,count_bytes,fullblock", "bs=1M", fmt.Sprintf("skip=%d", offset), fmt.Sprintf("count=%d", size), "status=none",
	}}, lab.Streams{Stdout: &b, Stderr: &e})
	if err != nil || code != 0 {
		t.Fatalf("read %s at %s: exit status %d, %v: %s", device, node, code, err, e.String())
	}
	return b.Bytes()
}

// write puts bytes, of a multiple of 4096, on a device so that they are on disk when it returns.
func (s *site) write(t testing.TB, node, device string, offset int, b []byte) {
	t.Helper()
	r, err := s.node(t, node).Exec(limit(t, 2*time.Minute), lab.Command{Argv: []string{
		"dd", "of=" + device, "oflag=direct,sync,seek_bytes", "iflag=fullblock", "bs=64k", fmt.Sprintf("seek=%d", offset), "conv=notrunc", "status=none",
	}}, bytes.NewReader(b))
	if err != nil || r.Code != 0 {
		t.Fatalf("write %s at %s: %+v, %v", device, node, r, err)
	}
}

// reader is a direct read of a device that goes on in the background.
type reader struct {
	what string
	sum  chan string
	err  chan error
}

// startRead begins to read size bytes of a device, in pieces of 64 KiB, past the volume's
// page cache. A read that hangs fails in time.
func (s *site) startRead(t *testing.T, node, device string, size int) *reader {
	t.Helper()
	r := &reader{what: device + " at " + node, sum: make(chan string, 1), err: make(chan error, 1)}
	n := s.node(t, node)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Second)
	t.Cleanup(cancel)
	go func() {
		res, err := n.Exec(ctx, lab.Command{Argv: []string{"sh", "-c", fmt.Sprintf(
			"dd if=%s iflag=direct,count_bytes,fullblock bs=64k count=%d status=none 2>/tmp/read-errors | sha256sum; cat /tmp/read-errors >&2", device, size)}}, nil)
		if err == nil && (res.Code != 0 || res.Stderr != "") {
			err = fmt.Errorf("exit status %d: %s", res.Code, res.Stderr)
		}
		sum, _, _ := strings.Cut(res.Stdout, " ")
		r.sum <- sum
		r.err <- err
	}()
	return r
}

// wait waits for the end of the read and fails the test unless it saw these bytes.
func (r *reader) wait(t *testing.T, want string) {
	t.Helper()
	sum, err := <-r.sum, <-r.err
	if err != nil {
		t.Errorf("read of %s: %v", r.what, err)
	} else if sum != want {
		t.Errorf("read of %s gave other bytes: %s, wanted %s", r.what, sum, want)
	}
}

// busy says whether the read is still going on.
func (r *reader) busy() bool { return len(r.sum) == 0 }
