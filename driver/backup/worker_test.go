package backup_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/backup"
	"github.com/vmthunder/vmthunder/driver/backup/posix"
)

const backupA, backupB = "0841d254-f1d4-48b7-88c4-006c9e21174d", "1841d254-f1d4-48b7-88c4-006c9e21174d"

// Tasks make, restore and remove backups of devices; a store that is not there may come back.
func TestWorkers(t *testing.T) {
	dir := t.TempDir()
	marker := filepath.Join(dir, posix.Marker)
	if err := os.WriteFile(marker, nil, 0o600); err != nil {
		t.Fatalf("%v", err)
	}
	workers := backup.Workers(repository(t, posix.New(dir), backup.Options{Compress: true}))
	one, two := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two")
	data := pattern(1)
	if err := errors.Join(os.WriteFile(one, data, 0o600), os.WriteFile(two, bytes.Repeat([]byte{5}, size+chunk), 0o600)); err != nil {
		t.Fatalf("%v", err)
	}
	var last driver.TaskProgress
	do := func(kind model.TaskKind, device string, bytes int64, a model.BackupArgs) (model.JSON, error) {
		args, err := json.Marshal(a)
		if err != nil {
			t.Fatalf("%v", err)
		}
		return workers[kind].Do(t.Context(), driver.Task{ID: "t", Device: device, Bytes: bytes, Args: args}, func(p driver.TaskProgress) { last = p })
	}
	a := model.BackupArgs{BackupID: backupA, Container: "c", Source: model.JSON(`{"bootable":true}`)}
	out, err := do(model.TaskCreateBackup, one, size, a)
	var res model.BackupResult
	if err != nil || json.Unmarshal(out, &res) != nil || res.Objects != 10 || last.Total != size {
		t.Fatalf("%s, %v, %+v", out, err, last)
	}
	if out, err = do(model.TaskCreateBackup, one, size, model.BackupArgs{BackupID: backupB, ParentID: backupA, ParentContainer: "c"}); err != nil || json.Unmarshal(out, &res) != nil || res.Objects != 0 {
		t.Errorf("%s, %v", out, err)
	}
	for _, args := range []model.BackupArgs{a, {BackupID: backupB}} {
		if _, err := do(model.TaskRestoreBackup, two, size+chunk, args); err != nil {
			t.Errorf("%v", err)
		}
		got, err := os.ReadFile(two)
		if err != nil || !bytes.Equal(got[:size], data) || !bytes.Equal(got[size:], bytes.Repeat([]byte{5}, chunk)) {
			t.Errorf("%s: other bytes, %v", args.BackupID, err)
		}
	}
	if _, err := do(model.TaskRestoreBackup, two, size-1, a); err == nil {
		t.Error("restored to a device that is too small")
	}
	if _, err := do(model.TaskRestoreBackup, two, size, model.BackupArgs{BackupID: backupA}); !errors.Is(err, backup.ErrCorrupt) || errors.Is(err, driver.ErrUnreachable) {
		t.Errorf("of another container: %v", err)
	}
	for _, bad := range []string{"", "../../../../../../../../../../etc/passwd"} {
		if _, err := do(model.TaskDeleteBackup, "", 0, model.BackupArgs{BackupID: bad}); err == nil {
			t.Errorf("%q was taken for a backup", bad)
		}
	}
	if err := os.Remove(marker); err != nil {
		t.Fatalf("%v", err)
	}
	for _, kind := range []model.TaskKind{model.TaskCreateBackup, model.TaskRestoreBackup, model.TaskDeleteBackup} {
		args := a
		if kind == model.TaskCreateBackup {
			args.BackupID = "2841d254-f1d4-48b7-88c4-006c9e21174d"
		} else if kind == model.TaskRestoreBackup {
			args.Container = "not here"
		}
		if _, err := do(kind, one, size, args); !errors.Is(err, driver.ErrUnreachable) {
			t.Errorf("%s without the store: %v", kind, err)
		}
	}
	if err := os.WriteFile(marker, nil, 0o600); err != nil {
		t.Fatalf("%v", err)
	}
	for _, args := range []model.BackupArgs{{BackupID: backupB}, a, a} {
		if _, err := do(model.TaskDeleteBackup, "", 0, args); err != nil {
			t.Errorf("%v", err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
}
