package nodeinit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// moduleTree is the folder of a kernel's modules and what depends on what, from
// modules.dep(5). A load is a few system calls, where modprobe(8) would be a program.
type moduleTree struct {
	dir  string
	path map[string]string   // module name → file, relative to dir
	deps map[string][]string // module name → files it needs, the nearest first
}

// umlModules is where Debian keeps the modules of user-mode-linux.
const umlModules = "/usr/lib/uml/modules"

func moduleName(path string) string {
	name, _, _ := strings.Cut(filepath.Base(path), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

func parseModulesDep(dir, text string) moduleTree {
	t := moduleTree{dir: dir, path: map[string]string{}, deps: map[string][]string{}}
	for line := range strings.Lines(text) {
		file, deps, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok || file == "" {
			continue
		}
		t.path[moduleName(file)] = file
		t.deps[moduleName(file)] = strings.Fields(deps)
	}
	return t
}

func openModules() (moduleTree, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return moduleTree{}, err
	}
	dir := filepath.Join(umlModules, unix.ByteSliceToString(u.Release[:]))
	b, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return moduleTree{}, fmt.Errorf("kernel modules: %w", err)
	}
	return parseModulesDep(dir, string(b)), nil
}

// load loads a module after all it needs; one that is loaded, or built in, is fine.
func (t moduleTree) load(name string) error {
	file, ok := t.path[moduleName(name)]
	if !ok {
		return fmt.Errorf("module %s: %w", name, os.ErrNotExist)
	}
	deps := t.deps[moduleName(name)]
	for _, dep := range slices.Backward(deps) { // modules.dep lists the last to be loaded first
		if err := t.insert(dep); err != nil {
			return err
		}
	}
	return t.insert(file)
}

func (t moduleTree) insert(file string) error {
	f, err := os.Open(filepath.Join(t.dir, file))
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.FinitModule(int(f.Fd()), "", 0)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("module %s: %w", file, err)
	}
	return nil
}
