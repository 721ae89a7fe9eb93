package initiator

import (
	"errors"
	"fmt"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/command"
)

// Exit codes of iscsiadm: iscsi_error_list in open-iscsi's include/iscsi_err.h.
const (
	codeSessionNotFound = 2
	codeTransport       = 4
	codeLogin           = 5
	codeTransTimeout    = 8
	codeInternal        = 9
	codePDUTimeout      = 11
	codeNoTransport     = 12
	codeAccess          = 13
	codeSessionExists   = 15
	codeDaemonLost      = 18
	codeFatalLogin      = 19
	codeNoDaemon        = 20
	codeNothingFound    = 21
	codeHostNotFound    = 23
	codeAuth            = 24
	codeAgain           = 29
	codeNotConnected    = 32
	codeDaemonTimeout   = 33
)

// exitCode returns the code that iscsiadm ended with, -1 if it didn't run to its end.
func exitCode(err error) int {
	if e, ok := errors.AsType[*command.ExitError](err); ok {
		return e.Code
	}
	return -1
}

// explain wraps the failure of a login with the sentinel that it stands for.
func explain(err error) error {
	switch exitCode(err) {
	case codeAuth: // also what LIO says to an initiator it doesn't know
		return fmt.Errorf("%w: %w", driver.ErrAuth, err)
	case codeFatalLogin, codeLogin:
		// The portal answered and would not serve this target. tgtd says "not found"
		// (19); LIO says "service unavailable" (5) of a target that isn't there or isn't enabled.
		return fmt.Errorf("target is not served there: %w: %w", driver.ErrNotFound, err)
	case codeTransport, codeTransTimeout, codePDUTimeout, codeHostNotFound, codeAgain, codeDaemonTimeout, codeNotConnected:
		return fmt.Errorf("%w: %w", driver.ErrUnreachable, err)
	case codeNoTransport:
		return fmt.Errorf("%w: %w: modprobe iscsi_tcp", driver.ErrUnavailable, err)
	case codeDaemonLost, codeNoDaemon, codeAccess:
		return fmt.Errorf("%w: %w: is iscsid running? systemctl start iscsid", driver.ErrUnavailable, err)
	}
	return err
}
