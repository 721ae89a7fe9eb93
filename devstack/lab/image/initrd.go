package image

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// moduleNames reach a virtio disk with an ext4 on it; what they need comes along.
func moduleNames() []string { return []string{"virtio_pci", "virtio_blk", "crc32c_generic", "ext4"} }

// ataModuleNames reach the disk of a machine without virtio.
func ataModuleNames() []string { return []string{"ata_piix", "ahci", "virtio_scsi", "sd_mod"} }

// moduleOrder lists the files, relative to the module folder, to load for the named
// modules, each after what it needs. have is extended.
func moduleOrder(dep string, names []string, have map[string]bool) ([]string, error) {
	lines := map[string][2]string{}
	for line := range strings.Lines(dep) {
		file, deps, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}
		name, _, _ := strings.Cut(filepath.Base(file), ".ko")
		lines[strings.ReplaceAll(name, "-", "_")] = [2]string{file, deps}
	}
	var out []string
	for _, n := range names {
		l, ok := lines[n]
		if !ok {
			continue // built in, or a kernel without: the boot will tell
		}
		deps := strings.Fields(l[1])
		// modules.dep lists what is to be loaded last first.
		for i := len(deps) - 1; i >= -1; i-- {
			f := l[0]
			if i >= 0 {
				f = deps[i]
			}
			if !have[f] {
				have[f] = true
				out = append(out, f)
			}
		}
	}
	if len(out) == 0 && len(names) > 0 {
		return nil, fmt.Errorf("none of the modules %v: %w", names, ErrMissing)
	}
	return out, nil
}

// buildInitrd writes the RAM disk, not compressed: unpacking would cost an emulated
// processor more than reading does.
func (in inputs) buildInitrd(path string) error {
	dep, err := os.ReadFile(filepath.Join(in.modules, "modules.dep"))
	if err != nil {
		return err
	}
	var buf bytes.Buffer
	c := &cpioWriter{w: &buf}
	for _, d := range []string{"bin", "dev", "modules", "proc", "sys", "root"} {
		c.file(d, modeDir, nil)
	}
	c.entry("dev/console", modeChar, nil, 5, 1)
	busybox, err := os.ReadFile(in.busybox)
	if err != nil {
		return err
	}
	c.file("bin/busybox", modeExec, busybox)
	c.file("init", modeExec, initScript)
	have := map[string]bool{}
	for _, set := range []struct {
		list  string
		names []string
	}{{"modules/order", moduleNames()}, {"modules/order-ata", ataModuleNames()}} {
		files, err := moduleOrder(string(dep), set.names, have)
		if err != nil {
			return err
		}
		var order strings.Builder
		for _, f := range files {
			b, err := os.ReadFile(filepath.Join(in.modules, f))
			if err != nil {
				return err
			}
			name := strings.TrimSuffix(filepath.Base(f), ".ko")
			c.file("modules/"+name+".ko", modeFile, b)
			fmt.Fprintln(&order, name)
		}
		c.file(set.list, modeFile, []byte(order.String()))
	}
	if err := c.close(); err != nil {
		return err
	}
	return os.WriteFile(path, buf.Bytes(), 0o644)
}
