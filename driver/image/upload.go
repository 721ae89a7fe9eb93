package image

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/command"
	"golang.org/x/sys/unix"
)

// Statuses of an image in Glance that matter to an upload (Image API v2).
const (
	imageQueued = "queued" // waits for its data
	imageSaving = "saving" // somebody is sending it
	imageActive = "active"
)

// ImageState is an image in Glance.
type ImageState struct {
	Status              string
	SizeBytes           int64
	HashAlgo, HashValue string // "" before it is active
}

// Sink is where an image's bytes go: [Glance].
type Sink interface {
	// State of an image; driver.ErrNotFound if it is not there.
	State(ctx context.Context, imageID string) (ImageState, error)
	// Send gives an image that is queued its data. An error that wraps
	// driver.ErrUnreachable may be gone next time; any other is the service's refusal.
	Send(ctx context.Context, imageID string, body io.Reader) error
	// Delete an image, protected or not; one that is not there is success.
	Delete(ctx context.Context, imageID string) error
}

// UploadOptions of an [Uploader]. Dir, Sink and Runner are required.
type UploadOptions struct {
	// Dir holds images on their way, in formats that can't be written front to back. It is
	// made if it isn't there.
	Dir    string
	Sink   Sink
	Runner command.Runner // for qemu-img
	// ConvertTimeout bounds one conversion. 0: six hours.
	ConvertTimeout time.Duration
	// Stall: a service that takes nothing for so long is left. 0: two minutes.
	Stall time.Duration
	// SavingWait is how long a service may take to see that whoever was sending an image is
	// gone. 0: a minute. SavingPoll is how often it is asked. 0: a second.
	SavingWait, SavingPoll time.Duration
}

// Uploader sends what a block device holds to the image service: the tasks of kind
// model.TaskUploadImage. Raw images are sent as they are read. For others there is in Dir
//
//	ID.tmp     what qemu-img has written so far
//	ID.image   the image, whole; from here on a crash costs no conversion
type Uploader struct {
	o    UploadOptions
	fail func(step string) error // in tests: a crash after that step
}

var _ driver.TaskWorker = (*Uploader)(nil)

// NewUploader makes an Uploader; nothing is touched before the first task.
func NewUploader(o UploadOptions) *Uploader {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&o.ConvertTimeout, 6*time.Hour)
	def(&o.Stall, 2*time.Minute)
	def(&o.SavingWait, time.Minute)
	def(&o.SavingPoll, time.Second)
	return &Uploader{o: o}
}

const imageSuffix = ".image"

// Phases of an upload.
const (
	phaseSend = "send"
	phaseWait = "wait for the image service"
)

func (u *Uploader) step(name string) error {
	if u.fail == nil {
		return nil
	}
	return u.fail(name)
}

func (u *Uploader) path(id, suffix string) string { return filepath.Join(u.o.Dir, id+suffix) }

// Clean implements [driver.TaskWorker].
func (u *Uploader) Clean(_ context.Context, id string) error {
	if err := checkID(id); err != nil {
		return err
	}
	for _, suffix := range []string{imageSuffix, tmpSuffix} {
		if err := os.Remove(u.path(id, suffix)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove what is left of upload %s: %w", id, err)
		}
	}
	return nil
}

// Do implements [driver.TaskWorker]. An image that is active already, because the answer got
// lost, is compared with what should have been sent.
func (u *Uploader) Do(ctx context.Context, t driver.Task, progress func(driver.TaskProgress)) (model.JSON, error) {
	var args model.UploadArgs
	if err := json.Unmarshal(t.Args, &args); err != nil {
		return nil, fmt.Errorf("arguments of upload %s: %w", t.ID, err)
	}
	if err := errors.Join(checkID(t.ID), checkID(args.ImageID)); err != nil {
		return nil, err
	}
	state, err := u.ready(ctx, args.ImageID, progress)
	if err != nil {
		return nil, err
	}
	source, size := t.Device, t.Bytes
	if args.DiskFormat != string(Raw) {
		if source, size, err = u.convert(ctx, t, args.DiskFormat, progress); err != nil {
			return nil, err
		}
	}
	f, err := os.Open(source) //nolint:gosec // the document's device, or a file of ours
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	sent := sha512.New()
	if state.Status == imageQueued {
		if err := u.send(ctx, args.ImageID, &outgoing{f: f, left: size, total: size, hash: sent, progress: progress}); err != nil {
			return nil, err
		}
		if err := u.step("sent"); err != nil {
			return nil, err
		}
		if state, err = u.o.Sink.State(ctx, args.ImageID); err != nil {
			return nil, missing(err)
		}
	} else {
		sent = nil
	}
	return u.compare(ctx, args.ImageID, state, f, size, sent, progress)
}

// missing makes an image that is gone the end: somebody has deleted it.
func missing(err error) error {
	if errors.Is(err, driver.ErrNotFound) {
		return fmt.Errorf("the image was deleted in the image service meanwhile: %w", driver.ErrNotFound)
	}
	return err
}

// ready waits until the image takes data, or has it. After a crash of ours Glance takes a
// moment to see that nobody sends any more and makes the image queued again; after one of
// its own it never does.
func (u *Uploader) ready(ctx context.Context, id string, progress func(driver.TaskProgress)) (ImageState, error) {
	for waited := time.Duration(0); ; waited += u.o.SavingPoll {
		s, err := u.o.Sink.State(ctx, id)
		switch {
		case err != nil:
			return s, missing(err)
		case s.Status == imageQueued || s.Status == imageActive:
			return s, nil
		case s.Status != imageSaving:
			return s, fmt.Errorf("image %s is %s in the image service and takes no data", id, s.Status)
		case waited >= u.o.SavingWait:
			return s, fmt.Errorf("image %s stays in status saving since its upload was interrupted, as when the image service is restarted", id)
		}
		progress(driver.TaskProgress{Phase: phaseWait})
		select {
		case <-time.After(u.o.SavingPoll):
		case <-ctx.Done():
			return s, ctx.Err()
		}
	}
}

// send streams, and leaves a service that takes nothing any more.
func (u *Uploader) send(ctx context.Context, id string, body *outgoing) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	body.ctx = ctx
	stall := time.AfterFunc(u.o.Stall, func() {
		cancel(fmt.Errorf("the image service took nothing for %s: %w", u.o.Stall, driver.ErrUnreachable))
	})
	defer stall.Stop()
	body.moved = func() { stall.Reset(u.o.Stall) }
	if err := u.o.Sink.Send(ctx, id, body); err != nil {
		if body.err != nil { // ours, not the service's
			return body.err
		}
		return stalled(ctx, err)
	}
	return nil
}

// compare has what Glance has hashed be what was sent; with sent nil it is read again. An
// image that is anything else is deleted: it must not be used.
func (u *Uploader) compare(ctx context.Context, id string, s ImageState, f *os.File, size int64, sent hash.Hash, progress func(driver.TaskProgress)) (model.JSON, error) {
	if s.Status != imageActive {
		return nil, fmt.Errorf("image %s is %s after its upload: %w", id, s.Status, driver.ErrUnreachable)
	}
	result := model.UploadResult{Bytes: size, HashAlgo: s.HashAlgo, HashValue: s.HashValue}
	if h, want := digest(driver.ImageSource{HashAlgo: s.HashAlgo, HashValue: s.HashValue}); h != nil {
		if sent != nil && s.HashAlgo == "sha512" {
			h = sent
		} else {
			_, err := hashFile(ctx, f, h, size, func(p driver.ImageProgress) {
				progress(driver.TaskProgress{Phase: p.Phase, Done: p.Done, Total: p.Total})
			})
			if err != nil {
				return nil, err
			}
		}
		if s.SizeBytes != size || !matches(h, want) {
			err := fmt.Errorf("image %s has %d bytes with %s %.16s…, and not the %d with %.16s… that were sent",
				id, s.SizeBytes, s.HashAlgo, want, size, hex.EncodeToString(h.Sum(nil)))
			return nil, errors.Join(err, u.o.Sink.Delete(ctx, id))
		}
	}
	return json.Marshal(result)
}

// outgoing reads a device for its way out, without filling the page cache with it.
type outgoing struct {
	ctx         context.Context //nolint:containedctx // an io.Reader has no other
	f           *os.File
	off         int64
	left, total int64
	hash        hash.Hash
	progress    func(driver.TaskProgress)
	moved       func()
	err         error
}

// piece is how much is sent as one chunk of the body: what python-glanceclient sends. Beneath
// uWSGI Glance takes none of a mebibyte (chunked-input-limit).
const piece = 64 << 10

// WriteTo implements [io.WriterTo], in pieces.
func (o *outgoing) WriteTo(w io.Writer) (total int64, err error) {
	buf := make([]byte, piece)
	for {
		n, err := o.Read(buf)
		if n > 0 {
			m, err := w.Write(buf[:n])
			total += int64(m)
			if err != nil {
				return total, err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return total, nil
		case err != nil:
			return total, err
		}
	}
}

// Read implements [io.Reader].
func (o *outgoing) Read(p []byte) (int, error) {
	if err := o.ctx.Err(); err != nil {
		return 0, context.Cause(o.ctx)
	}
	if o.left == 0 {
		return 0, io.EOF
	}
	n, err := o.f.ReadAt(p[:min(int64(len(p)), o.left)], o.off)
	if n > 0 {
		o.hash.Write(p[:n])
		_ = unix.Fadvise(int(o.f.Fd()), o.off, int64(n), unix.FADV_DONTNEED) // advice
		o.off += int64(n)
		o.left -= int64(n)
		o.moved()
		o.progress(driver.TaskProgress{Phase: phaseSend, Done: o.off, Total: o.total})
		return n, nil
	}
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("%s ends after %d of %d bytes", o.f.Name(), o.off, o.total)
	}
	if err != nil {
		o.err = fmt.Errorf("read what is to be sent: %w", err)
	}
	return 0, o.err
}
