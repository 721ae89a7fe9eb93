package v3

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

// createBatch is of our extension: many volumes in one transaction.
func (a *API) createBatch(c *call) error {
	body, err := c.parse()
	if err != nil {
		return err
	}
	if err := body.Only("volume", "count", "name_template", "partial", hints); err != nil {
		return err
	}
	n, err := body.Int("count", 1, int64(a.MaxBatch))
	if err != nil {
		return err
	}
	if n == nil {
		return fault.BadRequest("'count' is a required property")
	}
	template, err := body.String("name_template", 1, 255)
	if err != nil {
		return err
	}
	partial, err := body.Bool("partial")
	if err != nil {
		return err
	}
	want, err := a.readCreate(c, body, true)
	if err != nil {
		return err
	}
	names, err := batchNames(want.name, template, int(*n))
	if err != nil {
		return err
	}
	var vols []model.Volume
	var short *model.QuotaError
	for {
		vols, err = a.create(c, want, names)
		// What fits may have shrunk meanwhile; it never comes back to what was refused.
		if partial == nil || !*partial || !errors.As(err, &short) || short.Fit == 0 || short.Fit >= len(names) {
			break
		}
		names = names[:short.Fit]
	}
	if err != nil {
		return err
	}
	rows := make([]*view.Volume, 0, len(vols))
	for i := range vols {
		rows = append(rows, c.view().Volume(&vols[i]))
	}
	out := view.Object{"volumes": rows}
	if short != nil {
		out["short"] = view.Object{"count": int(*n) - len(vols), "message": quotaFault(short).Message}
	}
	return c.json(http.StatusAccepted, out)
}

// batchNames numbers names from 1: "vm-{}" → vm-1; without a template name-1.
func batchNames(name, template *string, n int) ([]*string, error) {
	names := make([]*string, n)
	form := ""
	switch {
	case template != nil && !strings.Contains(*template, "{}"):
		return nil, fault.BadRequest("Invalid input for field/attribute name_template. Value: %s. "+
			"It must hold {} where the number is to stand", *template)
	case template != nil:
		form = *template
	case name != nil && *name != "":
		form = *name + "-{}"
	default:
		return names, nil
	}
	for i := range names {
		s := strings.ReplaceAll(form, "{}", strconv.Itoa(i+1))
		if len([]rune(s)) > 255 {
			return nil, fault.BadRequest("Invalid input for field/attribute name. Value: %s. '%s' is too long", s, s)
		}
		names[i] = &s
	}
	return names, nil
}

// imageSize is the least size in GiB of a volume that holds an image. What Glance does
// not know of an image that is unpacked may be known here, from its import.
func (a *API) imageSize(c *call, img *model.Image) (int, error) {
	virtual := img.VirtualBytes
	if virtual <= 0 && img.DiskFormat != "raw" {
		row, err := a.Store.Image(c.ctx(), img.ID)
		if err != nil && !errors.Is(err, model.ErrNotFound) {
			return 0, err
		}
		if virtual = row.VirtualBytes; virtual <= 0 {
			return 0, fault.BadRequest("The virtual size of image %s is not known yet; give the volumes a size.", img.ID)
		}
	}
	gib := (max(virtual, img.SizeBytes) + 1<<30 - 1) >> 30
	return max(int(gib), img.MinDiskGiB, 1), nil
}
