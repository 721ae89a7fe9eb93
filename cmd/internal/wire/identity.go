package wire

import (
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/vmthunder/vmthunder/cmd/internal/config"
)

// Identity fills in the host name and address that the configuration leaves open.
func Identity(c *config.Config) error {
	if c.Host == "" {
		h, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("[DEFAULT] host is not set and the host name can't be read: %w", err)
		}
		c.Host = h
	}
	if c.MyIP == "" {
		c.MyIP = globalAddress()
	}
	if c.Node.TargetIP == "" {
		c.Node.TargetIP = c.MyIP
	}
	return nil
}

// globalAddress is the first global unicast address of an interface that is up, as
// oslo's netutils guesses it; "" if there is none.
func globalAddress() string {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return ""
	}
	for _, a := range addresses {
		if n, ok := a.(*net.IPNet); ok && n.IP.IsGlobalUnicast() && n.IP.To4() != nil {
			return n.IP.String()
		}
	}
	return ""
}

// bootID changes with every boot of the kernel.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// newSecret makes a CHAP secret: 16 letters and digits, about 95 bits (RFC 3720
// wants at least 96 only where no IPsec protects; several initiators take at most 16 bytes).
func newSecret() string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	for i := range b {
		b[i] = letters[b[i]%64]
	}
	return string(b)
}
