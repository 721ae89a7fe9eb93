package initiator

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Prune deletes the records, with their secrets, of targets for which ours says yes and to
// which there is no session. A power cut may bring back a record that was deleted just
// before it, or leave one whose login never began; nobody would ever delete it.
func (i *Initiator) Prune(ctx context.Context, ours func(iqn string) bool) error {
	all, err := i.sessions()
	if err != nil {
		return err
	}
	used := map[string]bool{}
	for _, s := range all {
		used[s.IQN] = true
	}
	dir := filepath.Join(i.home(), "nodes")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("node records: %w", err)
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !ours(e.Name()) || used[e.Name()] {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("node records: %w", err)
		}
	}
	return nil
}
