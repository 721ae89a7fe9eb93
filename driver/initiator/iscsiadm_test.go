package initiator

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/driver/command"
)

// patient is an iscsiadm that says whether it would be killed.
type patient struct {
	*command.Recorder
	killed bool
}

func (p *patient) Run(ctx context.Context, c command.Cmd) (command.Result, error) {
	r, err := p.Recorder.Run(ctx, c)
	p.killed = p.killed || ctx.Err() != nil
	return r, err
}

// Who gives a login up need not wait for it, and leaves no iscsiadm killed with its lock in
// its hand, and no session.
func TestGivenUpLoginEndsByItself(t *testing.T) {
	f := newFakeNode(t)
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan struct{})
	f.reply = func(string) error {
		cancel()
		<-left
		return nil
	}
	i := f.initiator(Options{})
	run := &patient{Recorder: &command.Recorder{Reply: f.iscsiadm}}
	i.run = run
	if _, err := i.Login(ctx, f.portal()); !errors.Is(err, context.Canceled) {
		t.Errorf("login: %v", err)
	}
	close(left)
	i.behind.Wait()
	if run.killed {
		t.Error("iscsiadm was killed")
	}
	if len(f.lines) != 2 || f.lines[1] != "iscsiadm -m session -r 1 --logout" {
		t.Errorf("executed %q", f.lines)
	}
	if r := f.records(); len(r) > 0 {
		t.Errorf("records left: %v", r)
	}
}

// A lock that somebody left who was killed is taken away, one that is held is not.
func TestStaleLockIsBroken(t *testing.T) {
	for _, stale := range []bool{false, true} {
		f := newFakeNode(t)
		f.file("lock/lock", "")
		path := filepath.Join(f.dir, "lock/lock.write")
		if err := os.Link(filepath.Join(f.dir, "lock/lock"), path); err != nil {
			t.Fatal(err)
		}
		i := f.initiator(Options{})
		if stale {
			i.lockStale = -time.Hour
		}
		if _, err := i.Login(t.Context(), f.portal()); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); (err == nil) == stale {
			t.Errorf("stale %v: %v", stale, err)
		}
	}
}
