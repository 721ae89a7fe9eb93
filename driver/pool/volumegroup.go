package pool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/command"
)

// A pool in a volume group is one logical volume that fills it, laid out as a disk is.
const (
	vgPrefix   = "vg:"
	volumeName = "vmthunder-pool"
	// blankTag marks a logical volume that we made and have not wiped yet: what
	// shines through from its extents' former use is no reason to refuse it.
	blankTag = "vmthunder-blank"
)

// lvsReport is the part of `lvs --reportformat json` that is used.
type lvsReport struct {
	Report []struct {
		LV []struct {
			Name string `json:"lv_name"`
			Tags string `json:"lv_tags"`
		} `json:"lv"`
	} `json:"report"`
}

// parseLVS says whether our volume is in the report and whether it is marked.
func parseLVS(text []byte) (found, marked bool, err error) {
	var r lvsReport
	if err := json.Unmarshal(text, &r); err != nil {
		return false, false, fmt.Errorf("answer of lvs: %w", err)
	}
	for _, part := range r.Report {
		for _, lv := range part.LV {
			if lv.Name == volumeName {
				return true, slices.Contains(strings.Split(lv.Tags, ","), blankTag), nil
			}
		}
	}
	return false, false, nil
}

// logicalVolume makes the volume in group vg if it isn't there and returns its path.
func (p *Pool) logicalVolume(ctx context.Context, vg string) (string, error) {
	lvm := func(name string, args ...string) ([]byte, error) {
		res, err := p.run.Run(ctx, command.Cmd{Name: name, Args: args})
		return res.Stdout, err
	}
	out, err := lvm("lvs", "--reportformat", "json", "-o", "lv_name,lv_tags", "--", vg)
	if _, ok := errors.AsType[*command.ExitError](err); ok {
		return "", fmt.Errorf("volume group %s: %w: %w", vg, err, driver.ErrUnavailable)
	}
	if err != nil {
		return "", fmt.Errorf("volume group %s: %w", vg, err)
	}
	found, marked, err := parseLVS(out)
	if err != nil {
		return "", fmt.Errorf("volume group %s: %w", vg, err)
	}
	full := vg + "/" + volumeName
	if !found {
		if _, err := lvm("lvcreate", "--yes", "--zero", "n", "--wipesignatures", "n", "--addtag", blankTag,
			"--extents", "100%FREE", "--name", volumeName, "--", vg); err != nil {
			return "", fmt.Errorf("volume group %s: %w", vg, err)
		}
		marked = true
	}
	if _, err := lvm("lvchange", "--activate", "y", "--", full); err != nil {
		return "", fmt.Errorf("volume group %s: %w", vg, err)
	}
	path := p.devDir + "/" + full
	if !marked {
		return path, nil
	}
	d, err := openDisk(path, true)
	if err != nil {
		return "", fmt.Errorf("volume group %s: %w", vg, err)
	}
	if err := errors.Join(d.wipe(), d.close()); err != nil {
		return "", fmt.Errorf("volume group %s: %w", vg, err)
	}
	if _, err := lvm("lvchange", "--deltag", blankTag, "--", full); err != nil {
		return "", fmt.Errorf("volume group %s: %w", vg, err)
	}
	return path, nil
}
