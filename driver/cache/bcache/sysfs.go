package bcache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/vmthunder/vmthunder/driver/internal/attr"
)

// sysfs reads and writes attributes below the root, /sys but for tests.
type sysfs string

func (s sysfs) path(elem ...string) string {
	return filepath.Join(append([]string{string(s)}, elem...)...)
}

// device is the directory of a block device.
func (s sysfs) device(major, minor uint32) string {
	return s.path("dev", "block", fmt.Sprintf("%d:%d", major, minor))
}

// readAttr returns an attribute without the line feed and NULs at its end.
func readAttr(path string) (string, error) {
	text, err := attr.Read(path)
	return strings.TrimRight(text, "\n\x00"), err
}

// writeAttr writes an attribute. It never creates a file: an attribute that this kernel
// does not have is fs.ErrNotExist.
func writeAttr(path, value string) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = f.WriteString(value)
	return err
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// linkBase is the last element of where a link points to, "" if there is none.
func linkBase(path string) string {
	to, err := os.Readlink(path)
	if err != nil {
		return ""
	}
	return filepath.Base(to)
}

// setting is one attribute to be set.
type setting struct {
	attr, value string
	optional    bool // not on every kernel
}

// Settings of a set. The congestion thresholds make bcache bypass a cache disk that answers
// slower than 2 ms: here the other side is a network, and a bypassed read is one that
// the children don't get from us.
var setSettings = [...]setting{
	{"congested_read_threshold_us", "0", false},
	{"congested_write_threshold_us", "0", false},
}

// Settings of a cached device. Without sequential_cutoff reads of more than 4 MiB in a row
// would not be cached. bcache stops a device after io_error_limit errors of its backing device,
// which would take the disk away from under running VMs; they get the errors anyway.
var deviceSettings = [...]setting{
	{"cache_mode", "writearound", false},
	{"sequential_cutoff", "0", false},
	{"readahead_cache_policy", "all", true},
	{"stop_when_cache_set_failed", "auto", true},
	{"io_error_limit", strconv.Itoa(1<<31 - 1), true},
}

// apply writes the settings below dir that are not so yet.
func apply(dir string, settings []setting) error {
	for _, s := range settings {
		path := filepath.Join(dir, s.attr)
		if now, err := readAttr(path); err == nil && chosen(now) == s.value {
			continue // cache_mode would write the superblock
		}
		err := writeAttr(path, s.value)
		if errors.Is(err, fs.ErrNotExist) && s.optional {
			continue
		}
		if err != nil {
			return fmt.Errorf("set %s to %s: %w", path, s.value, err)
		}
	}
	return nil
}

// chosen is what is in brackets in an attribute of several choices
// ("writethrough [writeback] none"), or the whole attribute if it is none of those.
func chosen(attr string) string {
	if _, rest, ok := strings.Cut(attr, "["); ok {
		if c, _, ok := strings.Cut(rest, "]"); ok {
			return c
		}
	}
	return attr
}

// poll asks until done says so, an error comes or the time is over: sysfs gives no event.
// The error then says what was waited for.
func poll(ctx context.Context, limit time.Duration, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		if ok, err := done(); ok || err != nil {
			return err
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("wait until %s: %w", what, ctx.Err())
		case <-t.C:
		}
	}
}
