package block_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/cache/internal/block"
)

func file(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWriteThenRead(t *testing.T) {
	path := file(t, 1<<20)
	want := bytes.Repeat([]byte("bcache.."), 512)
	if err := block.Write(path, 4096, want); err != nil {
		t.Fatal(err)
	}
	got, err := block.Read(path, 4096, 4096)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("Read = %.16q, %v", got, err)
	}
	if n, err := block.Bytes(path); n != 1<<20 || err != nil {
		t.Errorf("Bytes = %d, %v", n, err)
	}
	if err := block.Zero(path, 8192); err != nil {
		t.Fatal(err)
	}
	if ok, err := block.Blank(path); !ok || err != nil {
		t.Errorf("Blank after Zero = %v, %v", ok, err)
	}
	if _, err := block.Read(path, 1<<20, 4096); err == nil {
		t.Error("reading past the end succeeded")
	}
}

func TestBlankSeesMarks(t *testing.T) {
	const size = 256 << 20
	for _, off := range []int64{0, 510, 4096, 1<<20 - 1, size / 64 * 7, size - 1, size - 512} {
		path := file(t, size)
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{1}, off); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if ok, err := block.Blank(path); ok || err != nil {
			t.Errorf("Blank with a mark at %d = %v, %v", off, ok, err)
		}
	}
}

func TestBlankSmall(t *testing.T) {
	for _, size := range []int64{0, 1, 4096, 1<<20 + 512} {
		if ok, err := block.Blank(file(t, size)); !ok || err != nil {
			t.Errorf("Blank of %d bytes = %v, %v", size, ok, err)
		}
	}
}

func TestNumber(t *testing.T) {
	if _, _, err := block.Number(filepath.Join(t.TempDir(), "none")); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("missing device: %v", err)
	}
	if _, _, err := block.Number(file(t, 1)); err == nil {
		t.Error("a file has a device number")
	}
}
