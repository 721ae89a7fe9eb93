package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/vmthunder/vmthunder/devstack/cluster"
	"github.com/vmthunder/vmthunder/devstack/lab"
)

// spreadStar is the peers' ground: the same image as a plain target of the origin, with a
// session from each node.
type spreadStar struct {
	*spreadSite
	disks []string // sdX, by node
}

const (
	starIQN  = "iqn.2026-11.org.vmthunder.lab:star"
	starFile = "/var/lib/vmthunder/spread.raw"
	copyFile = "/var/lib/vmthunder/spread-copy.raw"
	overlay  = "/var/lib/vmthunder/spread.qcow2"
)

// starTarget makes the target on the kernel's own (Documentation/target): the file through
// the page cache, read-only, open to everybody. FILE SIZE IQN ADDRESS.
const starTarget = `set -e
t=/sys/kernel/config/target
b=$t/core/fileio_77/star
g=$t/iscsi/$3/tpgt_1
mkdir -p $b $g
echo -n fd_dev_name=$1,fd_dev_size=$2,fd_buffered_io=1 >$b/control
echo -n 1 >$b/enable
for a in authentication=0 generate_node_acls=1 cache_dynamic_acls=1 demo_mode_write_protect=1 default_cmdsn_depth=128; do
	echo -n ${a#*=} >$g/attrib/${a%=*}
done
mkdir $g/lun/lun_0 $g/np/$4:3260
ln -s $b $g/lun/lun_0/star
echo -n 1 >$g/enable
`

// starLogin logs in with the settings that Debian's initiator has, and prints the name of
// the disk. IQN ADDRESS.
const starLogin = `set -e
iscsiadm -m node -o new -T $1 -p $2:3260 >/dev/null
iscsiadm -m node -T $1 -p $2:3260 --login >/dev/null
for i in $(seq 300); do
	for s in /sys/class/iscsi_session/*; do
		read -r n <$s/targetname
		[ $n = $1 ] || continue
		for d in $s/device/target*/*:0/block/sd*; do
			[ -b /dev/${d##*/} ] && echo ${d##*/} && exit
		done
	done
	sleep 0.1
done
exit 1
`

func newSpreadStar(ctx context.Context, s *spreadSite) (*spreadStar, error) {
	if err := s.origin.PutFile(ctx, s.file, starFile); err != nil {
		return nil, err
	}
	if _, err := s.origin.Run(ctx, "sh", "-c", starTarget, "sh", starFile, fmt.Sprint(spreadImage), starIQN, s.origin.IP()); err != nil {
		return nil, fmt.Errorf("make the peers' target: %w", err)
	}
	star := &spreadStar{spreadSite: s, disks: make([]string, len(s.nodes))}
	err := s.each(ctx, s.nodes, func(ctx context.Context, n *lab.Node) error {
		out, err := n.Run(ctx, "sh", "-c", starLogin, "sh", starIQN, s.origin.IP())
		for i := range s.nodes {
			if s.nodes[i].Name() == n.Name() {
				star.disks[i] = strings.TrimSpace(out)
			}
		}
		return err
	})
	return star, err
}

// run has the targets read and counts what came over the sessions.
func (s *spreadStar) run(ctx context.Context, rate spreadRate, targets []spreadTarget) (spreadResult, error) {
	before, err := s.received(ctx)
	if err != nil {
		return spreadResult{}, err
	}
	r, err := s.timed(ctx, rate, targets)
	if err != nil {
		return r, err
	}
	after, err := s.received(ctx)
	r.origin = float64(after-before) / spreadSet
	return r, err
}

// received is what all sessions' disks have been read for.
func (s *spreadStar) received(ctx context.Context) (int64, error) {
	var sum int64
	for i, n := range s.nodes {
		_, got, err := readsOf(ctx, n, s.disks[i])
		if err != nil {
			return 0, err
		}
		sum += got
	}
	return sum, nil
}

func (s *spreadSite) starContestant() *spreadContestant {
	return &spreadContestant{who: "iSCSI from the origin", run: func(ctx context.Context, rate spreadRate) (spreadResult, error) {
		var ts []spreadTarget
		for i, n := range s.nodes {
			ts = append(ts, spreadTarget{node: n, path: "/dev/" + s.star.disks[i]})
		}
		return s.star.run(ctx, rate, ts)
	}}
}

func (s *spreadSite) copyContestant() *spreadContestant {
	note := fmt.Sprintf("the image has %d MiB; with one of 2 GiB, time and payload are %d times as much", spreadImage>>20, 2<<30/spreadImage)
	return &spreadContestant{who: "full copy, then read", note: note, run: func(ctx context.Context, rate spreadRate) (spreadResult, error) {
		var ts []spreadTarget
		for i, n := range s.nodes {
			ts = append(ts, spreadTarget{node: n, path: copyFile, source: "/dev/" + s.star.disks[i]})
		}
		r, err := s.star.run(ctx, rate, ts)
		return r, errors.Join(err, s.each(ctx, s.nodes, func(ctx context.Context, n *lab.Node) error {
			_, err := n.Run(ctx, "rm", "-f", copyFile)
			return err
		}))
	}}
}

// overlayUp makes an overlay of DISK and shows it as /dev/nbd0. OVERLAY DISK.
const overlayUp = `set -e
modprobe nbd max_part=0
rm -f $1
qemu-img create -q -f qcow2 -b $2 -F raw $1
qemu-nbd --connect=/dev/nbd0 --format=qcow2 --cache=none --aio=threads $1
[ -b /dev/nbd0 ]
`

func (s *spreadSite) qcow2Contestant() *spreadContestant {
	return &spreadContestant{who: "qcow2 over iSCSI", run: func(ctx context.Context, rate spreadRate) (spreadResult, error) {
		disk := map[string]string{}
		var ts []spreadTarget
		for i, n := range s.nodes {
			disk[n.Name()] = "/dev/" + s.star.disks[i]
			ts = append(ts, spreadTarget{node: n, path: "/dev/nbd0"})
		}
		err := s.each(ctx, s.nodes, func(ctx context.Context, n *lab.Node) error {
			if _, err := n.Run(ctx, "sh", "-c", overlayUp, "sh", overlay, disk[n.Name()]); err != nil {
				return fmt.Errorf("overlay at %s: %w", n.Name(), err)
			}
			return cluster.Wait(ctx, 20*time.Second, "the overlay's device", func() (bool, error) {
				size, err := n.ReadFile(ctx, "/sys/block/nbd0/size")
				return strings.TrimSpace(size) != "0", err
			})
		})
		if err != nil {
			return spreadResult{}, err
		}
		r, err := s.star.run(ctx, rate, ts)
		return r, errors.Join(err, s.each(ctx, s.nodes, func(ctx context.Context, n *lab.Node) error {
			_, err := n.Run(ctx, "qemu-nbd", "--disconnect", "/dev/nbd0")
			return err
		}))
	}}
}
