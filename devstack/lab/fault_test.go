//go:build lab

package lab_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/lib/pq"

	"github.com/vmthunder/vmthunder/devstack/lab"
)

func TestPostgresGoesAndComesBack(t *testing.T) {
	l, _ := current(t)
	ctx := timeout(t, 2*time.Minute)
	if err := l.CreateDatabase(ctx, "faults"); err != nil {
		t.Fatal(err)
	}
	c, err := pq.NewConnector(l.DatabaseURL("faults"))
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(c)
	defer db.Close()
	if _, err := db.ExecContext(ctx, "CREATE TABLE t AS SELECT 42 AS n"); err != nil {
		t.Fatal(err)
	}
	for _, stop := range []func(context.Context, lab.Service) error{l.Stop, l.KillService} {
		if err := stop(ctx, lab.Postgres); err != nil {
			t.Fatal(err)
		}
		if err := db.PingContext(ctx); err == nil {
			t.Error("answers while it is gone")
		}
		if err := l.Start(ctx, lab.Postgres); err != nil {
			t.Fatal(err)
		}
		var n int
		if err := db.QueryRowContext(ctx, "SELECT n FROM t").Scan(&n); err != nil || n != 42 {
			t.Errorf("after its return: %d, %v", n, err)
		}
	}
	if err := l.Start(ctx, lab.Postgres); !errors.Is(err, lab.ErrRunning) {
		t.Errorf("second start: %v", err)
	}
	if err := l.Pause(lab.Postgres); err != nil {
		t.Fatal(err)
	}
	if err := greets(ctx, l, 300*time.Millisecond); err == nil {
		t.Error("answers while it is paused")
	}
	if err := l.Resume(lab.Postgres); err != nil {
		t.Fatal(err)
	}
	if err := greets(ctx, l, 30*time.Second); err != nil {
		t.Errorf("after the pause: %v", err)
	}
}

// greets asks Postgres whether it speaks TLS and waits for the one byte of its answer
// ("SSLRequest" in its protocol). Not with lib/pq: when a context of its ends, it asks
// the server to cancel and waits for that answer without a limit.
func greets(ctx context.Context, l *lab.Lab, limit time.Duration) error {
	c, err := l.DialContext(ctx, "tcp", "10.77.0.1:25432")
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	if _, err := c.Write([]byte{0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f}); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 1))
	return err
}

func TestRabbitGoesAndComesBack(t *testing.T) {
	l, _ := current(t)
	ctx := timeout(t, 3*time.Minute)
	for _, stop := range []func(context.Context, lab.Service) error{l.KillService, l.Stop} {
		if err := stop(ctx, lab.Rabbit); err != nil {
			t.Fatal(err)
		}
		if c, err := l.DialContext(ctx, "tcp", "10.77.0.1:25672"); err == nil {
			_ = c.Close()
			t.Error("listens while it is gone")
		}
		if err := l.Start(ctx, lab.Rabbit); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPausedNode(t *testing.T) {
	_, n := current(t)
	ctx := timeout(t, time.Minute)
	if err := n.Pause(); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	if err := n.Ping(short); err == nil {
		t.Error("answers while it is paused")
	}
	if err := n.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := n.Ping(ctx); err != nil {
		t.Error(err)
	}
}

func TestHostProcess(t *testing.T) {
	l, _ := current(t)
	ctx := timeout(t, time.Minute)
	p, err := l.StartHost("speaker", []string{"/bin/sh", "-c", "echo hello $X; echo $HOME; exec sleep 1000"}, []string{"X=there"})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.WaitLog(ctx, func(s string) bool { return s == "hello there" }); err != nil {
		t.Error(err)
	}
	if _, err := l.StartHost("speaker", []string{"/bin/true"}, nil); !errors.Is(err, lab.ErrRunning) {
		t.Errorf("second start: %v", err)
	}
	again, err := l.HostProcess("speaker")
	if err != nil || again.Pid() != p.Pid() {
		t.Fatalf("found %v, %v", again, err)
	}
	if err := again.Stop(ctx, 5*time.Second); err != nil {
		t.Error(err)
	}
	if p.Running() {
		t.Error("runs after Stop")
	}
	p, err = l.StartHost("short", []string{"/bin/sh", "-c", "echo bye; exit 1"}, nil)
	if err == nil {
		err = p.WaitLog(ctx, func(s string) bool { return s == "never said" })
	}
	if err == nil {
		t.Error("a line that was never said was found")
	}
}
