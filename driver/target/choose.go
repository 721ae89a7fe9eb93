// Package target chooses among the helpers that export devices over iSCSI: LIO
// through configfs (package lio) and tgtd (package tgt).
package target

import (
	"context"
	"errors"
	"fmt"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/target/lio"
	"github.com/vmthunder/vmthunder/driver/target/tgt"
)

// Values of target_helper.
const (
	Auto = "auto"
	LIO  = "lioadm"
	Tgt  = "tgtadm"
)

// Options say where the targets are found; the zero value is where every system has them.
type Options struct {
	ConfigRoot string // LIO's configfs, lio.DefaultRoot if empty
	TgtSocket  string // tgtd's management socket, tgt.DefaultSocket if empty
}

// Choose returns the helper called name and why it was chosen. [Auto], or "", takes LIO
// where it is there, since it serves from the kernel and has an account per initiator, and
// tgtd otherwise. If the one that is asked for, or every one, is missing, the error wraps
// driver.ErrUnavailable and says what to do.
func Choose(ctx context.Context, name string, o Options) (driver.TargetHelper, string, error) {
	l, t := lio.New(o.ConfigRoot), tgt.New(o.TgtSocket)
	switch name {
	case LIO:
		if err := l.Available(ctx); err != nil {
			return nil, "", fmt.Errorf("target helper %s: %w", name, err)
		}
		return l, "configured", nil
	case Tgt:
		if err := t.Available(ctx); err != nil {
			return nil, "", fmt.Errorf("target helper %s: %w", name, err)
		}
		return t, "configured", nil
	case Auto, "":
	default:
		return nil, "", fmt.Errorf("target helper %q is not one of %s, %s, %s", name, Auto, LIO, Tgt)
	}
	errLIO := l.Available(ctx)
	if errLIO == nil {
		return l, "the kernel has LIO", nil
	}
	errTgt := t.Available(ctx)
	if errTgt == nil {
		return t, "tgtd runs, and there is no LIO: " + errLIO.Error(), nil
	}
	return nil, "", fmt.Errorf("no target helper: %w", errors.Join(errLIO, errTgt))
}
