package image

import (
	"fmt"
	"io"
	"strings"
)

// cpioWriter writes the "newc" archives that the kernel unpacks as its first root
// (Documentation/driver-api/early-userspace/buffer-format.rst).
type cpioWriter struct {
	w   io.Writer
	n   int64
	ino int
	err error
}

const (
	modeDir  = 0o040755
	modeFile = 0o100644
	modeExec = 0o100755
	modeChar = 0o020600
)

func (c *cpioWriter) write(p []byte) {
	if c.err == nil {
		var n int
		n, c.err = c.w.Write(p)
		c.n += int64(n)
	}
}

func (c *cpioWriter) pad() {
	if r := c.n % 4; r != 0 {
		c.write(make([]byte, 4-r))
	}
}

// entry adds a file; rmajor and rminor are of device nodes.
func (c *cpioWriter) entry(name string, mode int, data []byte, rmajor, rminor int) {
	c.ino++
	if name == "TRAILER!!!" {
		mode = 0
	}
	c.write(fmt.Appendf(nil, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		c.ino, mode, 0, 0, 1, 0, len(data), 0, 0, rmajor, rminor, len(name)+1, 0))
	c.write(append([]byte(name), 0))
	c.pad()
	c.write(data)
	c.pad()
}

func (c *cpioWriter) file(name string, mode int, data []byte) {
	c.entry(strings.TrimPrefix(name, "/"), mode, data, 0, 0)
}

func (c *cpioWriter) close() error {
	c.entry("TRAILER!!!", 0, nil, 0, 0)
	return c.err
}
