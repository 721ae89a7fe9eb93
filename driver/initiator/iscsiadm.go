package initiator

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vmthunder/vmthunder/driver/command"
)

const (
	// lockPatience is how long iscsiadm waits for the lock of its database before it gives
	// up (idbm_lock in usr/idbm.c: 3,000 times 10 ms). Nobody holds it longer than it takes to read a record.
	lockPatience = 30 * time.Second
	// adminTime bounds a command: the lock, a login or logout on the wire, and a slow node.
	adminTime = lockPatience + 30*time.Second
)

// iscsiadm runs iscsiadm to its end, whatever becomes of ctx meanwhile. Its lock is a hard
// link, which nobody takes away if it is killed between link and unlink: every later
// iscsiadm of the node would wait for half a minute and fail, for good. What a command takes
// is bounded by the login and logout timeouts of the record.
func (i *Initiator) iscsiadm(ctx context.Context, args ...string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := i.breakLock(); err != nil {
		return err
	}
	_, err := i.run.Run(context.WithoutCancel(ctx), command.Cmd{Name: "iscsiadm", Args: args, Timeout: adminTime})
	return err
}

// breakLock removes a lock of the database that is older than anybody waits for one: who
// held it was killed.
func (i *Initiator) breakLock() error {
	i.lockMu.Lock()
	defer i.lockMu.Unlock()
	path := filepath.Join(i.opt.Lock, "lock.write")
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("lock of iscsiadm's database %s: %w", path, err)
	}
	// A link is made and removed by changing the inode, so that is when it was taken.
	if time.Since(time.Unix(st.Ctim.Unix())) < i.lockStale {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("stale lock of iscsiadm's database: %w", err)
	}
	return nil
}
