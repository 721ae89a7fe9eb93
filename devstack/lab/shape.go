package lab

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"
)

var rateRE = regexp.MustCompile(`^[0-9]{1,6}(\.[0-9]{1,3})?[kmgt]?(bit|bps)$`)

// Shape limits the speed of a link, with the token bucket of tc-tbf(8). A link is
// NODE:in (what reaches the node), NODE:out (what it sends) or NODE (both). The rate is
// in tc's units, 100mbit say, or "off". NODE:out is set inside the node, which must
// run, and is gone after its next boot.
func (l *Lab) Shape(ctx context.Context, link, rate string) error {
	name, way, _ := strings.Cut(link, ":")
	n, err := l.Node(name)
	if err != nil {
		return fmt.Errorf("shape %s: %w", link, err)
	}
	if way != "" && way != "in" && way != "out" {
		return fmt.Errorf("%w: link %q", ErrOptions, link)
	}
	if rate != "off" && !rateRE.MatchString(rate) {
		return fmt.Errorf("%w: rate %q", ErrOptions, rate)
	}
	if way != "out" {
		if err := tool(ctx, "", append([]string{"tc", "-n", l.st.Namespace}, tbf(tapName(n.st.Host), rate)...)...); err != nil && !noQdisc(rate, err) {
			return fmt.Errorf("shape %s: %w", link, err)
		}
	}
	if way != "in" {
		if _, err := n.Run(ctx, append([]string{"tc"}, tbf("vec0", rate)...)...); err != nil && !noQdisc(rate, err) {
			return fmt.Errorf("shape %s: %w", link, err)
		}
	}
	return nil
}

// tbf are tc's arguments. The burst holds some jumbo segments at any rate; the queue
// is 100 ms, so TCP sees delay before it sees loss.
func tbf(dev, rate string) []string {
	if rate == "off" {
		return []string{"qdisc", "del", "dev", dev, "root"}
	}
	return []string{"qdisc", "replace", "dev", dev, "root", "tbf", "rate", rate, "burst", "256kb", "latency", "100ms"}
}

// noQdisc: there was no limit to take off.
func noQdisc(rate string, err error) bool {
	return rate == "off" && strings.Contains(err.Error(), "Cannot delete qdisc with handle of zero")
}

// Cut takes a node's cable out: nothing reaches it and nothing comes from it until Mend.
func (l *Lab) Cut(ctx context.Context, node string) error { return l.cable(ctx, node, "nomaster") }

// Mend puts a node's cable in again.
func (l *Lab) Mend(ctx context.Context, node string) error {
	return l.cable(ctx, node, "master "+bridge)
}

// cable does it at the bridge: a node whose tap is down never reads from it again.
func (l *Lab) cable(ctx context.Context, node, to string) error {
	n, err := l.Node(node)
	if err != nil {
		return err
	}
	return l.ip(ctx, "link set "+tapName(n.st.Host)+" "+to)
}

// Disturb what a node sends for a while, as tc-netem(8) does ("loss 30%", "delay 200ms"); all that it sends
// may be lost, so it begins a moment after this has returned, and the node ends it by itself.
func (l *Lab) Disturb(ctx context.Context, node, how string, d time.Duration) error {
	n, err := l.Node(node)
	if err != nil {
		return err
	}
	script := fmt.Sprintf("sleep 0.3; tc qdisc replace dev vec0 root netem limit 10000 %s; sleep %.1f; tc qdisc del dev vec0 root", how, d.Seconds())
	_, err = n.Start(ctx, "disturb", Command{Argv: []string{"sh", "-c", script}})
	return err
}
