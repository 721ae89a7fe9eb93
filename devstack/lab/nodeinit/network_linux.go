package nodeinit

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// network sets one IPv4 address by the ioctls of netdevice(7), which need no program
// to be started.
func network(dev, address string) error {
	p, err := netip.ParsePrefix(address)
	if err != nil {
		return fmt.Errorf("address of %s: %w", dev, err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := linkUp(fd, "lo"); err != nil {
		return err
	}
	addr := p.Addr().As4()
	var mask [4]byte
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	for _, set := range []struct {
		req uint
		ip  [4]byte
	}{{unix.SIOCSIFADDR, addr}, {unix.SIOCSIFNETMASK, mask}} {
		ifr, err := unix.NewIfreq(dev)
		if err != nil {
			return err
		}
		if err := ifr.SetInet4Addr(set.ip[:]); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, set.req, ifr); err != nil {
			return fmt.Errorf("set address of %s: %w", dev, err)
		}
		if set.req == unix.SIOCSIFADDR {
			if err := linkUp(fd, dev); err != nil {
				return err
			}
		}
	}
	return nil
}

func linkUp(fd int, dev string) error {
	ifr, err := unix.NewIfreq(dev)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr); err != nil {
		return fmt.Errorf("flags of %s: %w", dev, err)
	}
	ifr.SetUint16(ifr.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
		return fmt.Errorf("bring up %s: %w", dev, err)
	}
	return nil
}
