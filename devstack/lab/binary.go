package lab

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const binaryPackage = "github.com/vmthunder/vmthunder/cmd/vmthunder-lab"

// findBinary returns the path of a static vmthunder-lab program.
func (l *Lab) findBinary(ctx context.Context, given string) (string, error) {
	if given == "" {
		given = os.Getenv(EnvBinary)
	}
	if given == "" {
		if exe, err := os.Executable(); err == nil && filepath.Base(exe) == "vmthunder-lab" {
			given = exe
		}
	}
	if given != "" {
		path, err := filepath.Abs(given)
		if err != nil {
			return "", err
		}
		return path, static(path)
	}
	// A copy of its own for each laboratory: a rebuild must not change the program
	// under a node that reboots. The go command's cache makes it a second's work.
	out := filepath.Join(l.dir, "vmthunder-lab")
	l.progress("building %s", binaryPackage)
	cmd := exec.CommandContext(ctx, "go", "build", "-o", out, binaryPackage)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build %s (or name it in %s): %w: %s", binaryPackage, EnvBinary, err, strings.TrimSpace(text.String()))
	}
	return out, nil
}

// static checks that a program needs no loader: as process 1 of a node it runs before
// there is anything to load from.
func static(path string) error {
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("%w: program %s: %w", ErrOptions, path, err)
	}
	defer func() { _ = f.Close() }()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%w: %s is not static; build it with CGO_ENABLED=0", ErrOptions, path)
		}
	}
	return errors.Join()
}
