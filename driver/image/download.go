package image

import (
	"context"
	"crypto/md5"  //nolint:gosec // Glance's checksum, where it has nothing better
	"crypto/sha1" //nolint:gosec // may be configured in Glance
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strings"
	"time"

	"github.com/vmthunder/vmthunder/driver"
	"golang.org/x/sys/unix"
)

// errChecksum: the bytes are not those that Glance has.
var errChecksum = errors.New("checksum differs")

// digest gives a new hash and the value it must have; nil if Glance has none.
func digest(s driver.ImageSource) (hash.Hash, string) {
	if s.HashValue != "" {
		switch s.HashAlgo {
		case "sha512":
			return sha512.New(), s.HashValue
		case "sha384":
			return sha512.New384(), s.HashValue
		case "sha256":
			return sha256.New(), s.HashValue
		case "sha1":
			return sha1.New(), s.HashValue //nolint:gosec // as above
		case "md5":
			return md5.New(), s.HashValue //nolint:gosec // as above
		}
	}
	if s.Checksum != "" {
		return md5.New(), s.Checksum //nolint:gosec // as above
	}
	return nil, ""
}

func matches(h hash.Hash, want string) bool {
	return h == nil || strings.EqualFold(hex.EncodeToString(h.Sum(nil)), want)
}

// download makes ID.part all of the image, verified.
func (s *Store) download(ctx context.Context, src driver.ImageSource, report func(driver.ImageProgress)) error {
	f, err := os.OpenFile(s.path(src.ImageID, partSuffix), os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o640) //nolint:gosec // id is checked
	if err != nil {
		return space(err)
	}
	d := &download{s: s, src: src, f: f, report: report}
	err = d.run(ctx)
	if errors.Is(err, errChecksum) && d.resumed {
		// What was there may have been torn by a crash: once more from the beginning.
		if err = f.Truncate(0); err == nil {
			err = d.run(ctx)
		}
	}
	if errors.Is(err, errChecksum) {
		err = fmt.Errorf("%w: %w", err, driver.ErrUnusable)
	}
	return errors.Join(err, f.Close())
}

type download struct {
	s       *Store
	src     driver.ImageSource
	f       *os.File
	report  func(driver.ImageProgress)
	hash    hash.Hash
	want    string
	n       int64 // bytes in f, hashed
	resumed bool  // some of them were there before
}

func (d *download) run(ctx context.Context) error {
	if err := d.begin(ctx); err != nil {
		return err
	}
	for failures := 0; d.n != d.src.SizeBytes; {
		before := d.n
		err := d.fetch(ctx)
		if err == nil && d.src.SizeBytes < 0 {
			break // it ended, and nothing says that it should not
		}
		if err == nil && d.n < d.src.SizeBytes {
			err = fmt.Errorf("download ended after %d of %d bytes: %w", d.n, d.src.SizeBytes, driver.ErrUnreachable)
		}
		switch {
		case err == nil:
			continue
		case !errors.Is(err, driver.ErrUnreachable) || ctx.Err() != nil:
			return err
		case d.n > before:
			failures = 0
		}
		if failures++; failures >= d.s.o.Attempts {
			return err
		}
		select {
		case <-time.After(d.s.o.RetryWait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	d.report(driver.ImageProgress{Phase: phaseDownload, Done: d.n, Total: d.n})
	if !matches(d.hash, d.want) {
		return fmt.Errorf("image in Glance: %w", errChecksum)
	}
	return space(d.f.Sync())
}

// begin hashes what is there.
func (d *download) begin(ctx context.Context) error {
	st, err := d.f.Stat()
	if err != nil {
		return err
	}
	d.hash, d.want = digest(d.src)
	d.n = 0
	have := st.Size()
	if d.src.SizeBytes >= 0 {
		have = min(have, d.src.SizeBytes) // more is padding
	}
	d.resumed = have > 0
	if have == 0 {
		return nil
	}
	return d.verify(ctx, have)
}

func (d *download) verify(ctx context.Context, have int64) error {
	n, err := hashFile(ctx, d.f, d.hash, have, d.report)
	d.n = n
	return err
}

// hashFile hashes the first n bytes of f.
func hashFile(ctx context.Context, f io.ReaderAt, h hash.Hash, n int64, report func(driver.ImageProgress)) (int64, error) {
	if h == nil {
		return n, nil
	}
	buf := make([]byte, chunk)
	done := int64(0)
	for done < n {
		if err := ctx.Err(); err != nil {
			return done, err
		}
		b := buf[:min(chunk, n-done)]
		if _, err := f.ReadAt(b, done); err != nil {
			return done, fmt.Errorf("read back: %w", err)
		}
		h.Write(b)
		done += int64(len(b))
		report(driver.ImageProgress{Phase: phaseVerify, Done: done, Total: n})
	}
	return done, nil
}

const chunk = 1 << 20

// fetch reads on from n until the body ends. Errors of the network wrap
// driver.ErrUnreachable.
func (d *download) fetch(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := time.AfterFunc(d.s.o.Stall, func() {
		cancel(fmt.Errorf("download brought nothing for %s: %w", d.s.o.Stall, driver.ErrUnreachable))
	})
	defer stall.Stop()
	body, start, err := d.s.o.Source.Open(ctx, d.src.ImageID, d.n)
	if err != nil {
		return stalled(ctx, err)
	}
	defer func() { _ = body.Close() }()
	if start != d.n { // it can't give the rest only
		if err := d.f.Truncate(0); err != nil {
			return err
		}
		d.hash, _ = digest(d.src)
		d.n, d.resumed = 0, false
	}
	w := &sparseWriter{f: d.f, off: d.n}
	err = d.copy(ctx, w, body, stall)
	return errors.Join(err, w.settle())
}

func (d *download) copy(ctx context.Context, w io.Writer, body io.Reader, stall *time.Timer) error {
	total := max(d.src.SizeBytes, 0)
	buf := make([]byte, chunk)
	for {
		n, err := body.Read(buf)
		stall.Reset(d.s.o.Stall)
		if d.src.SizeBytes >= 0 && d.n+int64(n) > d.src.SizeBytes {
			return fmt.Errorf("image in Glance is larger than the %d bytes it should have: %w", d.src.SizeBytes, errChecksum)
		}
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return err
			}
			if d.hash != nil {
				d.hash.Write(buf[:n])
			}
			d.n += int64(n)
			d.report(driver.ImageProgress{Phase: phaseDownload, Done: d.n, Total: total})
			if err := d.s.step("chunk"); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return stalled(ctx, fmt.Errorf("download: %w: %w", driver.ErrUnreachable, err))
		}
	}
}

// stalled gives the reason the context was cancelled for, if it was.
func stalled(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
