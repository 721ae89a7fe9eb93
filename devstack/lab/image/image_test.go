package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMBR(t *testing.T) {
	b := mbr(bytes.Repeat([]byte{0xaa}, 600), 0x01020304, []partition{{kind: 0x0e, active: true, start: 2048, size: 40960}, {kind: 0x83, start: 43008, size: 88064}})
	if b[439] != 0xaa || binary.LittleEndian.Uint32(b[440:]) != 0x01020304 || b[510] != 0x55 || b[511] != 0xaa {
		t.Errorf("record %x", b)
	}
	want := "80feffff0efeffff00080000" + "00a00000"
	if got := hex.EncodeToString(b[446:462]); got != want {
		t.Errorf("first entry %s, want %s", got, want)
	}
	if b[462] != 0 || b[466] != 0x83 || binary.LittleEndian.Uint32(b[470:]) != 43008 {
		t.Errorf("second entry %x", b[462:478])
	}
}

func TestCPIO(t *testing.T) {
	var buf bytes.Buffer
	c := &cpioWriter{w: &buf}
	c.file("/init", modeExec, []byte("hello"))
	c.entry("dev/console", modeChar, nil, 5, 1)
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	head := "070701" + "00000001" + "000081ed" + "00000000" + "00000000" + "00000001" + "00000000" + "00000005" +
		"00000000" + "00000000" + "00000000" + "00000000" + "00000005" + "00000000"
	want := head + "init\x00\x00" + "hello\x00\x00\x00"
	if got := buf.String()[:len(want)]; got != want {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
	if buf.Len()%4 != 0 || !bytes.Contains(buf.Bytes(), []byte("TRAILER!!!\x00")) {
		t.Errorf("%d bytes, or no trailer", buf.Len())
	}
}

func TestModuleOrder(t *testing.T) {
	dep := "kernel/a/virtio-pci.ko: kernel/b/virtio.ko kernel/b/ring.ko\nkernel/b/ring.ko:\nkernel/b/virtio.ko: kernel/b/ring.ko\nkernel/c/blk.ko: kernel/b/virtio.ko\n"
	have := map[string]bool{}
	got, err := moduleOrder(dep, []string{"virtio_pci", "blk", "built_in"}, have)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"kernel/b/ring.ko", "kernel/b/virtio.ko", "kernel/a/virtio-pci.ko", "kernel/c/blk.ko"}, got); d != "" {
		t.Error(d)
	}
	if _, err := moduleOrder("", []string{"x"}, have); err == nil {
		t.Error("no modules at all is no error")
	}
}

func TestContentIsTheSameEverywhere(t *testing.T) {
	sum := sha256.Sum256(Content("checked1", checkedSize))
	const want = "fa117a2d2d318a344dce4e2621447a17beceb8dd180ef0b3434210423526f805"
	if got := hex.EncodeToString(sum[:]); got != want {
		t.Errorf("content changed: %s", got)
	}
	if bytes.Equal(Content("a", 64), Content("b", 64)) {
		t.Error("two names, one content")
	}
}
