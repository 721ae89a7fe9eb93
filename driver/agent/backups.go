package agent

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// BackupStore is where backups are kept.
type BackupStore interface {
	// Check tells why it can't be used now. It may hang, if that is a share whose server is away.
	Check(ctx context.Context) error
}

// How often the store of backups is looked at, and how long that may take.
const (
	backupEvery = 10 * time.Second
	backupStale = 30 * time.Second
)

// backupWatch remembers the last look at the store of backups.
type backupWatch struct {
	err error
	at  time.Time
}

var errNotLooked = errors.New("it was not looked at yet")

// backupLoop looks at the store of backups until ctx ends.
func (a *Agent) backupLoop(ctx context.Context) {
	tick := time.NewTicker(backupEvery)
	defer tick.Stop()
	for {
		err := a.d.Backups.Check(ctx)
		a.mu.Lock()
		news := (err == nil) != (a.backups.err == nil)
		a.backups = backupWatch{err, time.Now()}
		a.mu.Unlock()
		if news {
			a.askReport()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// backupsWork tells why the store of backups can't be used. The agent is not locked.
func (a *Agent) backupsWork() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if old := time.Since(a.backups.at); a.backups.err == nil && old > backupStale {
		return fmt.Errorf("it does not answer for %s", old.Round(time.Second))
	}
	return a.backups.err
}
