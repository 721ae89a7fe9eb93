package lab

import (
	"os"
	"syscall"
)

// allocated is what a sparse file takes on disk, in bytes; st_blocks counts 512 bytes.
func allocated(st os.FileInfo) int64 {
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		return s.Blocks * 512
	}
	return st.Size()
}
