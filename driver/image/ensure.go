package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/vmthunder/vmthunder/driver"
)

// Phases of an import.
const (
	phaseDownload = "download"
	phaseVerify   = "verify"
	phaseConvert  = "convert"
)

// step is where a test lets the program crash.
func (s *Store) step(name string) error {
	if s.fail == nil {
		return nil
	}
	return s.fail(name)
}

func (s *Store) ensure(ctx context.Context, src driver.ImageSource, report func(driver.ImageProgress)) (driver.ImageFile, error) {
	id := src.ImageID
	f, err := s.find(id)
	if errors.Is(err, driver.ErrNotFound) {
		err = s.importImage(ctx, src, report)
		if errors.Is(err, driver.ErrUnusable) {
			// It will not be tried again, so nothing of it may stay.
			err = errors.Join(err, s.removeFiles(id, partSuffix, rawSuffix+tmpSuffix, infoSuffix, rawSuffix))
		}
		if err == nil {
			f, err = s.find(id)
		}
	}
	if err != nil {
		return driver.ImageFile{}, err
	}
	if err := tooLarge(f.VirtualBytes, src.MaxBytes); err != nil {
		return driver.ImageFile{}, err
	}
	// A crash after the rename leaves what it was made from.
	if err := s.removeFiles(id, partSuffix, rawSuffix+tmpSuffix); err != nil {
		return driver.ImageFile{}, err
	}
	return f, nil
}

func tooLarge(virtual, most int64) error {
	if most > 0 && virtual > most {
		return fmt.Errorf("virtual size of %d bytes is above the limit of %d: %w", virtual, most, driver.ErrUnusable)
	}
	return nil
}

func (s *Store) importImage(ctx context.Context, src driver.ImageSource, report func(driver.ImageProgress)) error {
	if src.SizeBytes < 0 || src.DiskFormat == "" || src.HashValue == "" && src.Checksum == "" {
		var err error
		if src, err = s.o.Source.Describe(ctx, src); err != nil {
			return err
		}
	}
	want, err := claimed(src.DiskFormat)
	if err != nil {
		return err
	}
	if want == Raw {
		if err := tooLarge(src.SizeBytes, src.MaxBytes); err != nil {
			return err
		}
		if done, err := s.adopt(ctx, src, report); done || err != nil {
			return err
		}
	}
	if err := s.download(ctx, src, report); err != nil {
		return err
	}
	if err := s.step("downloaded"); err != nil {
		return err
	}
	part := s.path(src.ImageID, partSuffix)
	virtual, err := s.inspect(ctx, part, src, want)
	if err != nil {
		return err
	}
	if want == Raw {
		return s.finish(src.ImageID, part, meta{VirtualBytes: virtual, DeviceBytes: padded(virtual), Format: Raw})
	}
	tmp, err := s.convert(ctx, src.ImageID, part, want, virtual, report)
	if err != nil {
		return err
	}
	return s.finish(src.ImageID, tmp, meta{VirtualBytes: virtual, DeviceBytes: padded(virtual), Format: want})
}

// inspect checks the downloaded bytes and returns the virtual size.
func (s *Store) inspect(ctx context.Context, path string, src driver.ImageSource, want Format) (int64, error) {
	f, st, err := openPlain(path)
	if err != nil {
		return 0, err
	}
	size := st.Size()
	if want == Raw && src.SizeBytes >= 0 {
		size = src.SizeBytes // it may be padded already
	}
	virtual, err := inspectFile(f, size, want)
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, err
	}
	if want != Raw {
		if err := tooLarge(virtual, src.MaxBytes); err != nil { // before qemu-img sees it
			return 0, err
		}
		if virtual, err = qemuInfo(ctx, s.o.Runner, path, want); err != nil {
			return 0, err
		}
	}
	return virtual, tooLarge(virtual, src.MaxBytes)
}

func inspectFile(f *os.File, size int64, want Format) (int64, error) {
	got, err := Detect(f, size)
	if err != nil {
		return 0, err
	}
	if got != want {
		return 0, fmt.Errorf("image claims to be %s but is %s: %w", want, got, driver.ErrUnusable)
	}
	return Inspect(f, size, got)
}

// convert makes ID.raw.tmp.
func (s *Store) convert(ctx context.Context, id, part string, f Format, virtual int64, report func(driver.ImageProgress)) (string, error) {
	tmp := s.path(id, rawSuffix+tmpSuffix)
	// One that is still written to, by a qemu-img that outlived us, must not be this file.
	if err := s.removeFiles(id, rawSuffix+tmpSuffix); err != nil {
		return "", err
	}
	report(driver.ImageProgress{Phase: phaseConvert, Total: virtual})
	watched := make(chan struct{})
	watch, stop := context.WithCancel(ctx)
	go func() {
		defer close(watched)
		for t := time.NewTicker(time.Second); ; {
			select {
			case <-t.C:
				report(driver.ImageProgress{Phase: phaseConvert, Done: min(allocated(tmp), virtual), Total: virtual})
			case <-watch.Done():
				t.Stop()
				return
			}
		}
	}()
	err := qemuConvert(ctx, s.o.Runner, part, tmp, f, s.o.ConvertTimeout)
	stop()
	<-watched
	if err != nil {
		return "", err
	}
	st, err := os.Stat(tmp)
	if err != nil {
		return "", err
	}
	if st.Size() != virtual {
		return "", unusable(f, "was converted to %d bytes, not %d", st.Size(), virtual)
	}
	report(driver.ImageProgress{Phase: phaseConvert, Done: virtual, Total: virtual})
	return tmp, s.step("converted")
}

// finish makes the file at path ID.raw, and removes what it was made from.
func (s *Store) finish(id, path string, m meta) error {
	if err := syncFile(path, m.DeviceBytes); err != nil {
		return err
	}
	if err := s.step("padded"); err != nil {
		return err
	}
	if err := s.writeMeta(id, m); err != nil {
		return err
	}
	if err := s.step("described"); err != nil {
		return err
	}
	if err := os.Rename(path, s.path(id, rawSuffix)); err != nil {
		return err
	}
	if err := syncDir(s.o.Dir); err != nil {
		return err
	}
	return s.step("renamed")
}
