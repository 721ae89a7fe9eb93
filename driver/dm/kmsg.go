package dm

import (
	"strings"

	"golang.org/x/sys/unix"
)

// The reason why a table is refused is in the kernel's log and nowhere else.

const kernelLog = "/dev/kmsg"

// watchKernelLog opens the log at its end. Where it can't be read the function
// that it returns gives a hint where to look.
func watchKernelLog() (reason func() string, done func()) {
	fd, err := unix.Open(kernelLog, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		if _, err = unix.Seek(fd, 0, unix.SEEK_END); err != nil {
			_ = unix.Close(fd)
		}
	}
	if err != nil {
		return func() string { return "the kernel log (dmesg) says why" }, func() {}
	}
	reason = func() string {
		var lines []string
		buf := make([]byte, 8192) // longer than a record may be
		for range 200 {
			n, err := unix.Read(fd, buf)
			if err == unix.EPIPE { // overwritten records were skipped
				continue
			}
			if err != nil || n <= 0 {
				break
			}
			if s, ok := parseKernelLog(string(buf[:n])); ok {
				lines = append(lines, s)
			}
		}
		if len(lines) == 0 {
			return "the kernel log (dmesg) may say why"
		}
		return "kernel: " + strings.Join(lines[max(0, len(lines)-3):], "; ")
	}
	return reason, func() { _ = unix.Close(fd) }
}

// parseKernelLog takes the text out of a record of /dev/kmsg
// (Documentation/ABI/testing/dev-kmsg) if device-mapper wrote it.
func parseKernelLog(record string) (string, bool) {
	prefix, text, ok := strings.Cut(record, ";")
	if !ok || strings.Contains(prefix, "\n") {
		return "", false
	}
	text, _, _ = strings.Cut(text, "\n")
	text, ok = strings.CutPrefix(strings.TrimSpace(text), "device-mapper: ")
	return text, ok && text != ""
}
