package demo

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vmthunder/vmthunder/devstack/cluster"
)

// creation is how the volumes were made: by the openstack command, as its user does it.
type creation struct {
	line     string        // what the user types
	took     time.Duration // from the command's start to its end
	requests requests      // that the control plane got from it
	server   time.Duration // from the first request's arrival until the last volume was available
	ids      []string      // of the volumes, in the order of their numbers
}

const volumeName = "vm"

// createAll makes the volumes with one openstack command, whose extension is in path.
func createAll(ctx context.Context, c *cluster.Cluster, o Options, path string) (creation, error) {
	args := []string{"volume", "create", "--image", o.Image, "--count", strconv.Itoa(o.Volumes), volumeName}
	made := creation{line: "openstack " + strings.Join(args, " ")}
	o.Progress("$ %s", made.line)
	cmd, err := c.Lab.OpenStack("admin", args...)
	if err != nil {
		return made, err
	}
	cmd.Env = append(cmd.Env, "PYTHONPATH="+path)
	log := c.API(0).LogPath()
	before, err := os.Stat(log)
	if err != nil {
		return made, err
	}
	start := time.Now()
	if err := run(c, cmd); err != nil {
		return made, fmt.Errorf("%s: %w", made.line, err)
	}
	made.took = time.Since(start)

	var vs []cluster.Volume
	err = cluster.Wait(ctx, time.Minute, "all volumes to be available", func() (bool, error) {
		all, err := c.Admin().Volumes(ctx)
		if err != nil {
			return false, err
		}
		vs = slices.DeleteFunc(all, func(v cluster.Volume) bool { return !strings.HasPrefix(v.Name, volumeName+"-") })
		return len(vs) == o.Volumes && !slices.ContainsFunc(vs, func(v cluster.Volume) bool { return v.Status != "available" }), nil
	})
	if err != nil {
		return made, err
	}
	text, err := os.ReadFile(log)
	if err != nil {
		return made, err
	}
	// What this program asked comes after what the command did.
	made.requests, err = parseRequests(string(text[before.Size():]), start.Add(made.took))
	if err != nil {
		return made, fmt.Errorf("%w; log %s", err, log)
	}
	end := made.requests.last
	ids := map[string]string{}
	for _, v := range vs {
		ids[v.Name] = v.ID
		// Null for a volume that was available as soon as it was there.
		if v.UpdatedAt == "" {
			continue
		}
		at, err := time.Parse("2006-01-02T15:04:05.999999", v.UpdatedAt)
		if err != nil {
			return made, fmt.Errorf("volume %s: %w", v.ID, err)
		}
		if at.After(end) {
			end = at
		}
	}
	made.server = end.Sub(made.requests.first)
	for i := range o.Volumes {
		made.ids = append(made.ids, ids[fmt.Sprintf("%s-%d", volumeName, i+1)])
	}
	return made, nil
}

// run runs a command in the laboratory; what it said is in the error.
func run(c *cluster.Cluster, cmd *exec.Cmd) error {
	var errs strings.Builder
	cmd.Stderr = &errs
	if err := c.Lab.RunInside(cmd); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(errs.String()))
	}
	return nil
}

// requests are those that the control plane has answered.
type requests struct {
	count       int
	first, last time.Time     // arrival of the first, answer to the last
	worked      time.Duration // the sum of their durations
}

// requestLine is what api's middleware logs when it has answered, in logrus's text format.
var requestLine = regexp.MustCompile(`^time="([^"]+)" .* duration="?([^" ]+)"? (?:.* )?method=`)

// parseRequests sums up the requests in a log of the control plane, answered until then.
func parseRequests(log string, until time.Time) (requests, error) {
	var r requests
	for line := range strings.Lines(log) {
		f := requestLine.FindStringSubmatch(line)
		if f == nil {
			continue
		}
		answer, err := time.Parse("2006-01-02 15:04:05.000", f[1]) // the laboratory's clock is UTC
		if err != nil {
			return r, fmt.Errorf("log line %q: %w", line, err)
		}
		took, err := time.ParseDuration(f[2])
		if err != nil {
			return r, fmt.Errorf("log line %q: %w", line, err)
		}
		if answer.After(until) {
			break
		}
		if arrival := answer.Add(-took); r.count == 0 || arrival.Before(r.first) {
			r.first = arrival
		}
		r.count, r.last, r.worked = r.count+1, answer, r.worked+took
	}
	if r.count == 0 {
		return r, fmt.Errorf("the control plane has logged no request")
	}
	return r, nil
}
