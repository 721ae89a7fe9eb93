package tempest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// Options of a run.
type Options struct {
	// Regex chooses the tests, Exclude takes some of them away ("" none).
	Regex, Exclude string
	// Concurrency is how many processes test side by side; 0 is 2.
	Concurrency int
}

const program = "/usr/bin/tempest"

// stestrConf says where the tests are; plugins are found by themselves.
const stestrConf = `[DEFAULT]
test_path=/usr/lib/python3/dist-packages/tempest/test_discover
top_dir=/usr/lib/python3/dist-packages
`

// Run makes a workspace in dir, which may be there, runs the tests and returns their
// results; failed tests are no error. In dir it leaves tempest.conf, tempest.log,
// results.subunit and results.tsv. It must run where the cloud can be reached.
func Run(ctx context.Context, dir string, c Cloud, o Options) (Results, error) {
	if o.Concurrency == 0 {
		o.Concurrency = 2
	}
	if _, err := os.Stat(program); err != nil {
		return nil, fmt.Errorf("tempest: %w; run devstack/packages.sh clients", err)
	}
	conf := filepath.Join(dir, "tempest.conf")
	for path, content := range map[string]string{
		conf: text(c.config(dir)), filepath.Join(dir, ".stestr.conf"): stestrConf,
	} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			return nil, err
		}
	}
	stream, err := os.Create(filepath.Join(dir, "results.subunit"))
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	said, err := os.Create(filepath.Join(dir, "stderr.txt"))
	if err != nil {
		return nil, err
	}
	defer said.Close()
	args := []string{"run", "--config-file", conf, "--subunit", "--concurrency", strconv.Itoa(o.Concurrency), "--regex", o.Regex}
	if o.Exclude != "" {
		args = append(args, "--exclude-regex", o.Exclude)
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Env = []string{
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + dir, "LANG=C.UTF-8", "TZ=UTC", "PYTHONWARNINGS=ignore", "OS_TEST_TIMEOUT=300",
		"PYTHONDONTWRITEBYTECODE=1",
	}
	cmd.Stdout, cmd.Stderr = stream, said
	// Its workers are in its group and end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	runErr := cmd.Run()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("tempest in %s: %w", dir, ctx.Err())
	}
	if exit := new(exec.ExitError); runErr != nil && !errors.As(runErr, &exit) {
		return nil, fmt.Errorf("tempest in %s: %w", dir, runErr)
	}
	rs, err := readFile(stream.Name())
	if err != nil {
		return nil, err
	}
	if len(rs) == 0 {
		return nil, fmt.Errorf("tempest in %s has run no test: %w; see stderr.txt there", dir, cmpErr(runErr))
	}
	if runErr != nil && len(rs.Failures()) == 0 {
		return nil, fmt.Errorf("tempest in %s: %w, though no test has failed; see stderr.txt there", dir, runErr)
	}
	out, err := os.Create(filepath.Join(dir, "results.tsv"))
	if err != nil {
		return nil, err
	}
	return rs, errors.Join(rs.Write(out), out.Close())
}

var errNoMatch = errors.New("nothing matches")

func cmpErr(err error) error {
	if err == nil {
		return errNoMatch
	}
	return err
}

func readFile(path string) (Results, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return ReadResults(f)
}
