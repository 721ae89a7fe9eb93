package wire

import (
	"bytes"
	"encoding/hex"
	"maps"
	"os"

	"github.com/vmthunder/vmthunder/cmd/internal/config"
	"github.com/vmthunder/vmthunder/driver/agent"
	"github.com/vmthunder/vmthunder/driver/backup"
	"github.com/vmthunder/vmthunder/driver/backup/posix"
)

// addBackups has a node make and restore backups, if it is told where they are.
func addBackups(d *agent.Drivers, c config.Backup) error {
	if c.Path == "" {
		return nil
	}
	key, err := backupKey(c.KeyFile)
	if err != nil {
		return err
	}
	r, err := backup.New(posix.New(c.Path), backup.Options{
		ChunkBytes: int64(c.ChunkKiB) << 10, Compress: c.Compression == "zstd", Key: key, Workers: c.Workers,
	})
	if err != nil {
		return configError("[backup] %v", err)
	}
	d.Backups = r
	maps.Copy(d.Tasks, backup.Workers(r))
	return nil
}

// backupKey reads the key from a file that nobody else can read. "" is none.
func backupKey(file string) ([]byte, error) {
	if file == "" {
		return nil, nil //nolint:nilnil // backups are not encrypted
	}
	st, err := os.Stat(file)
	if err != nil {
		return nil, configError("[backup] key_file: %v", err)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, configError("[backup] key_file: others may read %s; chmod 600", file)
	}
	b, err := os.ReadFile(file) //nolint:gosec // G304: the operator's
	if err != nil {
		return nil, configError("[backup] key_file: %v", err)
	}
	key, err := hex.DecodeString(string(bytes.TrimSpace(b)))
	if err != nil || len(key) != backup.KeyBytes {
		return nil, configError("[backup] key_file: %s has no %d hexadecimal digits; make it with `openssl rand -hex %d`", file, 2*backup.KeyBytes, backup.KeyBytes)
	}
	return key, nil
}
