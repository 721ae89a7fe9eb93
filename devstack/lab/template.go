package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// templateVersion is raised when what a template holds changes without a package doing so.
const templateVersion = 2

const templateMark = "from-template"

// fromTemplate says that accounts and databases came from a template.
func (l *Lab) fromTemplate() bool {
	_, err := os.Stat(filepath.Join(l.dir, templateMark))
	return err == nil
}

// templateKey names what a template was made of: its own version and the versions of
// the packages that make databases.
func (l *Lab) templateKey(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, "dpkg-query", "-W", "-f=${Package} ${Version} ${db:Status-Status}\n",
		"postgresql-*", "python3-keystone", "python3-glance", "python3-glance-store", "python3-placement", "python3-nova", "python3-oslo.db", "python3-alembic")
	cmd.Env = cleanEnv("/root")
	out, err := cmd.Output()
	if err != nil && len(out) == 0 {
		return "", fmt.Errorf("dpkg-query: %w", err)
	}
	h := sha256.New()
	fmt.Fprintln(h, templateVersion, l.KeystoneURL(), Password, DatabaseUser, accounts(), slices.Contains(l.st.Services, Glance),
		slices.Contains(l.st.Services, Placement), slices.Contains(l.st.Services, Nova))
	if slices.Contains(l.st.Services, Cinder) {
		fmt.Fprintln(h, Cinder, cinderVersion(ctx))
	}
	lines := strings.Split(string(out), "\n")
	slices.Sort(lines)
	for _, s := range lines {
		if strings.HasSuffix(s, " installed") {
			fmt.Fprintln(h, s)
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

// useTemplate fills the state directory with ready databases of Postgres, Keystone and
// Glance. The first call ever makes them, in a laboratory of its own; others wait.
func (l *Lab) useTemplate(ctx context.Context) error {
	if l.st.Cache == "" || !slices.Contains(l.st.Services, Keystone) || l.fromTemplate() {
		return nil
	}
	key, err := l.templateKey(ctx)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(l.st.Cache, 0o755); err != nil {
		return err
	}
	dir := filepath.Join(l.st.Cache, "template-"+key)
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock template: %w", err)
	}
	if _, err := os.Stat(dir); err != nil {
		l.progress("making the databases' template, once (about half a minute)")
		if err := l.makeTemplate(ctx, dir); err != nil {
			return fmt.Errorf("make template: %w", err)
		}
	}
	if err := copyTree(ctx, dir, l.dir); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(l.dir, templateMark), []byte(dir+"\n"), 0o644)
}

func (l *Lab) makeTemplate(ctx context.Context, dir string) error {
	state := dir + ".build"
	if old, err := Open(state); err == nil { // of a crash
		if err := old.Down(ctx); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(state); err != nil {
		return err
	}
	t, err := Up(ctx, Options{
		Name: "template", StateDir: state, Services: withDatabases(l.st.Services), TemplateDir: "none", Progress: l.progress,
	})
	if err != nil {
		return err
	}
	if slices.Contains(l.st.Services, Cinder) {
		err = t.initCinder(ctx)
	}
	if err == nil && slices.Contains(l.st.Services, Nova) {
		err = t.initNova(ctx)
	}
	stop := func() error {
		for _, s := range []Service{Placement, Glance, Keystone, Postgres} {
			if err := t.Stop(ctx, s); err != nil {
				return err
			}
		}
		if err := os.MkdirAll(dir+".new", 0o700); err != nil {
			return err
		}
		for _, d := range []string{"pg", "keystone"} {
			if err := os.Rename(filepath.Join(state, d), filepath.Join(dir+".new", d)); err != nil {
				return err
			}
		}
		return os.Rename(dir+".new", dir)
	}
	if err == nil {
		err = stop()
	}
	if derr := t.Down(context.WithoutCancel(ctx)); err == nil {
		err = derr
	}
	return err
}

// withDatabases are the services that make databases when they start. Nova's and the real
// Cinder's are made without them, which spares a broker.
func withDatabases(in []Service) []Service {
	return slices.DeleteFunc(slices.Clone(in), func(s Service) bool { return slices.Contains([]Service{Rabbit, Neutron, Nova, Cinder}, s) })
}

// copyTree copies the content of a directory with owners and modes, by reference where
// the file system can.
func copyTree(ctx context.Context, from, to string) error {
	cmd := exec.CommandContext(ctx, "cp", "-a", "--reflink=auto", from+"/.", to)
	cmd.Env = cleanEnv("/root")
	var out bytes.Buffer
	cmd.Stderr = &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("copy %s: %w: %s", from, err, strings.TrimSpace(out.String()))
	}
	// cp -a gives the state directory the template's mode.
	return os.Chmod(to, 0o755) //nolint:gosec // user postgres passes through
}
