package attr

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	if _, err := Read(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("one that is not there: %v", err)
	}
	for _, text := range []string{"", "running\n", " two words "} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := Read(path); err != nil || got != text {
			t.Errorf("%q, %v, want %q", got, err, text)
		}
	}
	var bad *fs.PathError
	if _, err := Read(filepath.Dir(path)); !errors.As(err, &bad) || bad.Op != "read" {
		t.Errorf("a directory: %v", err)
	}
}

// A real attribute, as the kernel of this machine makes it.
func TestReadOfTheKernel(t *testing.T) {
	const path = "/proc/sys/kernel/ostype"
	if got, err := Read(path); err != nil || got != "Linux\n" {
		t.Errorf("%q, %v", got, err)
	}
}
