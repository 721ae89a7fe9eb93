// Package spec checks the description of a target before any of it reaches a
// kernel path, a comma-separated option string or a management protocol.
package spec

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/vmthunder/vmthunder/driver"
)

// Limits of RFC 3720 and of the targets.
const (
	maxName      = 223 // bytes of an iSCSI name, RFC 3720 section 3.2.6.1
	maxSerial    = 36  // bytes that tgtd keeps
	maxPath      = 500 // bytes that LIO keeps of a device path
	maxUser      = 200 // bytes; LIO, tgtd and open-iscsi take 255
	minSecret    = 12  // bytes, RFC 3720 section 8.2.1
	maxSecret    = 16  // bytes, what every initiator accepts
	secretUnset  = "NULL"
	optionBreaks = ",= \t\r\n"
)

var (
	targetName    = regexp.MustCompile(`^iqn\.[0-9]{4}-[0-9]{2}\.[a-z0-9][a-z0-9.:-]*$`)
	initiatorName = regexp.MustCompile(`^(iqn|eui|naa)\.[A-Za-z0-9][A-Za-z0-9.:_-]*$`)
	word          = regexp.MustCompile(`^[!-~]+$`) // printable, no space
)

// IQN checks a target's name.
func IQN(iqn string) error {
	if len(iqn) > maxName || !targetName.MatchString(iqn) {
		return fmt.Errorf("target name %q is not an IQN of lower case letters, digits, '.', ':' and '-'", iqn)
	}
	return nil
}

// Check returns what is wrong with t, without its secrets.
func Check(t driver.Target) error {
	errs := []error{IQN(t.IQN)}
	if !filepath.IsAbs(t.Device) || len(t.Device) > maxPath || !word.MatchString(t.Device) || strings.ContainsAny(t.Device, optionBreaks) {
		errs = append(errs, fmt.Errorf("device %q is not a plain absolute path", t.Device))
	}
	if _, err := netip.ParseAddrPort(t.Portal); err != nil {
		errs = append(errs, fmt.Errorf("portal is not IP:PORT: %w", err))
	}
	if len(t.Serial) > maxSerial || t.Serial != "" && (!word.MatchString(t.Serial) || strings.ContainsAny(t.Serial, optionBreaks)) {
		errs = append(errs, fmt.Errorf("serial %q is not a word of at most %d bytes", t.Serial, maxSerial))
	}
	seen := make(map[string]bool)
	for _, a := range t.ACLs {
		if seen[strings.ToLower(a.Initiator)] {
			errs = append(errs, fmt.Errorf("initiator %s is named twice", a.Initiator))
		}
		seen[strings.ToLower(a.Initiator)] = true
		errs = append(errs, checkACL(a))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("target %s: %w", t.IQN, err)
	}
	return nil
}

func checkACL(a driver.ACL) error {
	switch {
	case len(a.Initiator) > maxName || !initiatorName.MatchString(a.Initiator):
		return fmt.Errorf("initiator name %q is not an iSCSI name", a.Initiator)
	case len(a.User) > maxUser || !word.MatchString(a.User) || strings.ContainsAny(a.User, optionBreaks) || strings.HasPrefix(a.User, secretUnset):
		return fmt.Errorf("CHAP user of initiator %s is not a word of at most %d bytes", a.Initiator, maxUser)
	case len(a.Secret) < minSecret || len(a.Secret) > maxSecret || !word.MatchString(a.Secret) || strings.HasPrefix(a.Secret, secretUnset):
		// LIO takes what begins with NULL as "no secret".
		return fmt.Errorf("CHAP secret of initiator %s does not have %d to %d printable characters or begins with %s",
			a.Initiator, minSecret, maxSecret, secretUnset)
	}
	return nil
}
