package driver

import (
	"context"
	"fmt"
	"strings"
)

// ObjectStore keeps objects: byte strings under names. Backups are kept in one that
// all nodes reach: a directory of a shared file system, a bucket.
//
// Names are parts joined by slashes; see [CheckObjectName]. Methods may be called at
// the same time, from several nodes.
type ObjectStore interface {
	// Put stores an object. After a crash at any moment it is there wholly or not at
	// all; when Put has returned it stays. One of that name is replaced.
	Put(ctx context.Context, name string, data []byte) error
	// Get returns an object of at most max bytes; a larger one is an error, a missing one
	// ErrNotFound.
	Get(ctx context.Context, name string, max int64) ([]byte, error)
	// List returns the names that begin with prefix and a slash, in order. Nothing is an
	// empty list.
	List(ctx context.Context, prefix string) ([]string, error)
	// Delete removes an object; a missing one is success.
	Delete(ctx context.Context, name string) error
	// Check returns ErrUnavailable, saying why, if the store can't be used now.
	Check(ctx context.Context) error
}

// CheckObjectName refuses what is no name of an object: it is made of parts of letters,
// digits and -_=% and dots, joined by single slashes. No part begins with a dot, so none
// leads out of a directory, and none is hidden in it.
func CheckObjectName(name string) error {
	if len(name) > 1024 {
		return fmt.Errorf("object name of %d bytes, at most 1024 are allowed", len(name))
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || len(part) > 255 || part[0] == '.' {
			return fmt.Errorf("object name %q: bad part %q", name, part)
		}
		for i := range len(part) {
			c := part[i]
			if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("-_=%.", c) >= 0) {
				return fmt.Errorf("object name %q: bad part %q", name, part)
			}
		}
	}
	return nil
}
