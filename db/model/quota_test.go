package model_test

import (
	"errors"
	"testing"

	"github.com/vmthunder/vmthunder/db/model"
)

func TestCheckQuota(t *testing.T) {
	vols := func(gib ...int) []model.Volume {
		var out []model.Volume
		for _, g := range gib {
			out = append(out, model.Volume{SizeGiB: g, ConsumesQuota: true})
		}
		return out
	}
	free := vols(50)
	free[0].ConsumesQuota = false
	type m = map[string]int64
	for name, c := range map[string]struct {
		limits, used m
		vols         []model.Volume
		want         *model.QuotaError
	}{
		"no limits":      {nil, m{"volumes": 9}, vols(1, 1), nil},
		"unlimited":      {m{"volumes": -1, "gigabytes": -1, "per_volume_gigabytes": -1}, m{"volumes": 9}, vols(1, 1), nil},
		"exactly":        {m{"volumes": 4, "gigabytes": 5}, m{"volumes": 2, "gigabytes": 2}, vols(1, 2), nil},
		"one too many":   {m{"volumes": 4}, m{"volumes": 2}, vols(1, 1, 1), &model.QuotaError{Resource: "volumes", Limit: 4, Used: 2, Requested: 3, Fit: 2}},
		"none at all":    {m{"volumes": 0}, m{}, vols(1), &model.QuotaError{Resource: "volumes", Limit: 0, Requested: 1}},
		"over before":    {m{"volumes": 1}, m{"volumes": 5}, vols(1), &model.QuotaError{Resource: "volumes", Limit: 1, Used: 5, Requested: 1}},
		"gigabytes":      {m{"volumes": 9, "gigabytes": 10}, m{"gigabytes": 5}, vols(2, 2, 2, 2), &model.QuotaError{Resource: "gigabytes", Limit: 10, Used: 5, Requested: 8, Fit: 2}},
		"both":           {m{"volumes": 1, "gigabytes": 5}, m{}, vols(2, 2, 2), &model.QuotaError{Resource: "gigabytes", Limit: 5, Requested: 6, Fit: 1}},
		"one volume":     {m{"per_volume_gigabytes": 3}, m{}, vols(3, 7, 5), &model.QuotaError{Resource: "per_volume_gigabytes", Limit: 3, Requested: 7, Fit: 1}},
		"does not count": {m{"volumes": 1, "gigabytes": 1, "per_volume_gigabytes": 1}, m{}, append(free, vols(1)...), nil},
	} {
		t.Run(name, func(t *testing.T) {
			err := model.CheckQuota(c.limits, c.used, c.vols)
			var got *model.QuotaError
			if !errors.As(err, &got) && err != nil {
				t.Fatal(err)
			}
			switch {
			case (got == nil) != (c.want == nil):
				t.Errorf("got %+v, want %+v", got, c.want)
			case got != nil && *got != *c.want:
				t.Errorf("got %+v, want %+v", *got, *c.want)
			}
		})
	}
}
