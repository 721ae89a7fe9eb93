package image

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/command"
)

// sink is an image service with one image.
type sink struct {
	status  string
	data    []byte
	sends   int
	deleted bool
	after   int    // cuts the next body off after so many bytes
	stuck   string // status after that
	wrong   bool   // keeps other bytes than it gets
	polls   int
	frees   int // polls after which an image that is saving is queued again
	err     error
}

func (s *sink) State(context.Context, string) (ImageState, error) {
	if s.deleted {
		return ImageState{}, fmt.Errorf("glance: %w", driver.ErrNotFound)
	}
	if s.status == imageSaving {
		if s.polls++; s.polls > s.frees {
			s.status = imageQueued
		}
	}
	sum := sha512.Sum512(s.data)
	return ImageState{Status: s.status, SizeBytes: int64(len(s.data)), HashAlgo: "sha512", HashValue: hex.EncodeToString(sum[:])}, nil
}

func (s *sink) Send(_ context.Context, _ string, body io.Reader) error {
	s.sends++
	if s.err != nil {
		return s.err
	}
	if s.after > 0 {
		_, err := io.CopyN(io.Discard, body, int64(s.after))
		s.after, s.status = 0, s.stuck
		return errors.Join(err, fmt.Errorf("glance: connection reset: %w", driver.ErrUnreachable))
	}
	b, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	if s.wrong {
		b[len(b)/2] ^= 1
	}
	s.data, s.status = b, imageActive
	return nil
}

func (s *sink) Delete(context.Context, string) error { s.deleted = true; return nil }

// disk is a file in place of a device, mostly holes.
func disk(t *testing.T) (path string, content []byte) {
	t.Helper()
	content = make([]byte, 8<<20)
	copy(content[1<<20:], bytes.Repeat([]byte("vmthunder"), 20000))
	copy(content[7<<20:], bytes.Repeat([]byte{0xa5}, 4096))
	path = filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, content
}

type upload struct {
	*Uploader
	sink *sink
	task driver.Task
	last driver.TaskProgress
}

func newUpload(t *testing.T, path, format string, size int) *upload {
	t.Helper()
	s := &sink{status: imageQueued}
	args, err := json.Marshal(model.UploadArgs{ImageID: uuid.NewString(), DiskFormat: format})
	if err != nil {
		t.Fatal(err)
	}
	return &upload{
		Uploader: NewUploader(UploadOptions{
			Dir: filepath.Join(t.TempDir(), "upload"), Sink: s, Runner: command.Exec{}, SavingPoll: time.Millisecond, SavingWait: 20 * time.Millisecond,
		}),
		sink: s, task: driver.Task{ID: uuid.NewString(), Device: path, Bytes: int64(size), Args: args},
	}
}

func (u *upload) do(t *testing.T) (model.UploadResult, error) {
	t.Helper()
	out, err := u.Do(t.Context(), u.task, func(p driver.TaskProgress) { u.last = p })
	var r model.UploadResult
	if err == nil {
		err = json.Unmarshal(out, &r)
	}
	return r, err
}

func (u *upload) left(t *testing.T) int {
	t.Helper()
	if err := u.Clean(t.Context(), u.task.ID); err != nil {
		t.Fatal(err)
	}
	entries, _ := os.ReadDir(u.o.Dir)
	return len(entries)
}

func TestUploadFormats(t *testing.T) {
	path, content := disk(t)
	for format, qemu := range map[string]string{"raw": "raw", "qcow2": "qcow2", "vmdk": "vmdk", "vdi": "vdi", "vhd": "vpc", "vhdx": "vhdx", "ploop": "parallels"} {
		t.Run(format, func(t *testing.T) {
			u := newUpload(t, path, format, len(content))
			r, err := u.do(t)
			if err != nil {
				t.Fatal(err)
			}
			if int(r.Bytes) != len(u.sink.data) || r.HashAlgo != "sha512" || u.last.Done != u.last.Total || u.last.Phase != phaseSend {
				t.Errorf("%+v, %+v", r, u.last)
			}
			file := filepath.Join(t.TempDir(), "image")
			if err := os.WriteFile(file, u.sink.data, 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.CommandContext(t.Context(), "qemu-img", "convert", "-f", qemu, "-O", "raw", file, file+".raw").CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if got, err := os.ReadFile(file + ".raw"); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d bytes that differ, %v", len(got), err)
			}
			if n := u.left(t); n != 0 {
				t.Errorf("%d files are left", n)
			}
		})
	}
	u := newUpload(t, path, "iso", len(content))
	if _, err := u.do(t); !errors.Is(err, driver.ErrUnusable) {
		t.Errorf("iso: %v", err)
	}
}

// A crash between any two steps is gone on from, and what was converted is not converted again.
func TestUploadCrashes(t *testing.T) {
	path, content := disk(t)
	crash := errors.New("crash")
	for _, step := range []string{"converted", "renamed", "sent"} {
		for _, format := range []string{"raw", "qcow2"} {
			if format == "raw" && step != "sent" {
				continue
			}
			t.Run(step+" "+format, func(t *testing.T) {
				u := newUpload(t, path, format, len(content))
				u.fail = func(s string) error {
					if s == step {
						return crash
					}
					return nil
				}
				if _, err := u.do(t); !errors.Is(err, crash) {
					t.Fatalf("got %v", err)
				}
				sends := u.sink.sends
				u.fail = func(s string) error {
					if s == "converted" && step != "converted" {
						t.Error("converted again")
					}
					return nil
				}
				if _, err := u.do(t); err != nil {
					t.Fatal(err)
				}
				if step == "sent" && u.sink.sends != sends {
					t.Error("sent again")
				}
				if u.sink.status != imageActive {
					t.Errorf("image is %s", u.sink.status)
				}
				if n := u.left(t); n != 0 {
					t.Errorf("%d files are left", n)
				}
			})
		}
	}
}

func TestUploadFailures(t *testing.T) {
	path, content := disk(t)
	t.Run("connection lost, service sees it", func(t *testing.T) {
		u := newUpload(t, path, "raw", len(content))
		u.sink.after, u.sink.stuck, u.sink.frees = 1<<20, imageSaving, 3
		if _, err := u.do(t); !errors.Is(err, driver.ErrUnreachable) {
			t.Fatalf("got %v", err)
		}
		if _, err := u.do(t); err != nil || !bytes.Equal(u.sink.data, content) {
			t.Errorf("the second time: %v", err)
		}
	})
	t.Run("service restarted", func(t *testing.T) {
		u := newUpload(t, path, "raw", len(content))
		u.sink.after, u.sink.stuck, u.sink.frees = 1<<20, imageSaving, 1<<30
		_, _ = u.do(t)
		if _, err := u.do(t); err == nil || errors.Is(err, driver.ErrUnreachable) || !strings.Contains(err.Error(), "saving") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("other bytes kept", func(t *testing.T) {
		u := newUpload(t, path, "raw", len(content))
		u.sink.wrong = true
		if _, err := u.do(t); err == nil || !u.sink.deleted {
			t.Errorf("got %v, deleted %v", err, u.sink.deleted)
		}
	})
	t.Run("other bytes there after a crash", func(t *testing.T) {
		u := newUpload(t, path, "raw", len(content))
		u.sink.status, u.sink.data = imageActive, content[:len(content)/2]
		if _, err := u.do(t); err == nil || !u.sink.deleted {
			t.Errorf("got %v, deleted %v", err, u.sink.deleted)
		}
	})
	t.Run("image deleted", func(t *testing.T) {
		u := newUpload(t, path, "raw", len(content))
		u.sink.deleted = true
		if _, err := u.do(t); !errors.Is(err, driver.ErrNotFound) || !strings.Contains(err.Error(), "deleted") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("device too short", func(t *testing.T) {
		u := newUpload(t, path, "raw", len(content)+4096)
		if _, err := u.do(t); err == nil || u.sink.status == imageActive {
			t.Errorf("got %v, image is %s", err, u.sink.status)
		}
	})
	t.Run("no such device", func(t *testing.T) {
		u := newUpload(t, path+"x", "qcow2", len(content))
		if _, err := u.do(t); err == nil || errors.Is(err, driver.ErrUnreachable) {
			t.Errorf("got %v", err)
		}
		if n := u.left(t); n != 0 {
			t.Errorf("%d files are left", n)
		}
	})
	if n, err := filled(t.Context(), path, int64(len(content)), func(driver.TaskProgress) {}); err != nil || n != 4*64<<10 {
		t.Errorf("%d bytes are filled, %v", n, err)
	}
}
