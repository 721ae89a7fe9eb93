package tgt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/vmthunder/vmthunder/driver"
)

// DefaultSocket is tgtd's management socket with its default control port.
const DefaultSocket = "/var/run/tgtd/socket.0"

// Numbers of struct tgtadm_req in tgt's usr/tgtadm.h.
const (
	opNew uint32 = iota
	opDelete
	opShow
	opBind
	opUnbind
	opUpdate
)

const (
	modeSystem uint32 = iota
	modeTarget
	modeDevice
	modePortal
	modeLLD
	modeSession
	modeConnection
	modeAccount
)

const (
	allTargets  = -1 // tid of a request that shows all
	driverName  = "iscsi"
	maxParams   = 8 << 10 // bytes, as tgtd limits them
	maxResponse = 64 << 20
	callTime    = 10 * time.Second // tgtd answers at once, unless it hangs in a device
)

// request is struct tgtadm_req, in the machine's byte order.
type request struct {
	Mode, Op   uint32
	LLD        [64]byte
	Len        uint32 // with the parameters that follow
	TID        int32
	SID, LUN   uint64
	CID        uint32
	HostNo     uint32
	DeviceType uint32 // 0 is a disk
	ACDir      uint32 // 0 is an incoming account
	Pack       uint32
	Force      uint32
}

// response is struct tgtadm_rsp; text follows it.
type response struct {
	Err uint32
	Len uint32 // with the text
}

// Code is an error number of tgt's usr/tgtadm_error.h.
type Code uint32

// The codes this package tells apart.
const (
	codeNoTarget      Code = 4
	codeNoLUN         Code = 5
	codeNoSession     Code = 6
	codeNoConnection  Code = 7
	codeTargetExists  Code = 9
	codeACLExists     Code = 12
	codeNoACL         Code = 13
	codeUserExists    Code = 14
	codeNoUser        Code = 15
	codeTargetActive  Code = 19
	codeLUNActive     Code = 20
	codeInvalid       Code = 17
	codeNoDriver      Code = 3
	codeNoRemoval     Code = 24
	maxKnownErrorCode      = 24
)

var codeText = [maxKnownErrorCode + 1]string{
	0: "success", 1: "unknown error", 2: "out of memory", codeNoDriver: "no such driver", codeNoTarget: "no such target",
	codeNoLUN: "no such LUN", codeNoSession: "no such session", codeNoConnection: "no such connection", 8: "no such binding",
	codeTargetExists: "target exists", 10: "LUN exists", 11: "binding exists", codeACLExists: "ACL exists", codeNoACL: "no such ACL",
	codeUserExists: "account exists", codeNoUser: "no such account", 16: "too many accounts", codeInvalid: "request refused", 18: "outgoing account exists",
	codeTargetActive: "target is in use", codeLUNActive: "LUN is in use", 21: "driver is in use", 22: "not supported", 23: "unknown parameter",
	codeNoRemoval: "removal is prevented",
}

// Error is the code in words.
func (c Code) Error() string {
	if int(c) < len(codeText) {
		return "tgtd: " + codeText[c]
	}
	return fmt.Sprintf("tgtd: error %d", uint32(c))
}

// Unwrap tells which of the driver's sentinels a code stands for.
func (c Code) Unwrap() error {
	switch c {
	case codeTargetActive, codeLUNActive, codeNoRemoval:
		return driver.ErrBusy
	case codeNoTarget, codeNoLUN:
		return driver.ErrNotFound
	case codeTargetExists, codeUserExists:
		return driver.ErrExists
	case codeNoDriver:
		return driver.ErrUnavailable
	}
	return nil
}

func encode(r request, params string) ([]byte, error) {
	copy(r.LLD[:], driverName)
	var body []byte
	if params != "" {
		body = append([]byte(params), 0)
	}
	if len(body) > maxParams {
		return nil, fmt.Errorf("tgtd: request of %d bytes is too long", len(body))
	}
	r.Len = uint32(binary.Size(r) + len(body))
	var b bytes.Buffer
	if err := binary.Write(&b, binary.NativeEndian, r); err != nil {
		return nil, fmt.Errorf("tgtd: encode request: %w", err)
	}
	b.Write(body)
	return b.Bytes(), nil
}

func decode(r io.Reader) (string, error) {
	var h response
	if err := binary.Read(r, binary.NativeEndian, &h); err != nil {
		return "", fmt.Errorf("tgtd: read response: %w", err)
	}
	if h.Err != 0 {
		return "", Code(h.Err)
	}
	n := int64(h.Len) - int64(binary.Size(h))
	if n < 0 || n > maxResponse {
		return "", fmt.Errorf("tgtd: response claims %d bytes", h.Len)
	}
	text := make([]byte, 0, min(n, 1<<16))
	buf := bytes.NewBuffer(text)
	if _, err := io.CopyN(buf, r, n); err != nil {
		return "", fmt.Errorf("tgtd: read response: %w", err)
	}
	return string(bytes.TrimRight(buf.Bytes(), "\x00")), nil
}

// call sends one request and returns tgtd's text. Parameters are never part of an error.
func (h *Helper) call(ctx context.Context, r request, params string) (string, error) {
	b, err := encode(r, params)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", h.socket)
	if err != nil {
		if timedOut(err) {
			return "", fmt.Errorf("tgtd: no answer on %s: %w", h.socket, err)
		}
		return "", fmt.Errorf("%w: tgtd does not listen on %s (is it installed and running? systemctl start tgt): %w", driver.ErrUnavailable, h.socket, err)
	}
	defer c.Close() //nolint:errcheck // nothing is written behind
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err = c.Write(b); err == nil {
		var text string
		if text, err = decode(c); err == nil {
			return text, nil
		}
	}
	if ctx.Err() != nil {
		return "", errors.Join(ctx.Err(), err)
	}
	return "", err
}

// timedOut tells that time ran out, also in the moment before the context says so itself.
func timedOut(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout() || errors.Is(err, context.Canceled)
}
