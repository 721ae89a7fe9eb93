package model_test

import (
	"errors"
	"testing"

	"github.com/vmthunder/vmthunder/db/model"
)

func TestCheckQuota(t *testing.T) {
	vols := func(gib ...int) []model.Claim {
		var out []model.Claim
		for _, g := range gib {
			out = append(out, model.VolumeClaim(g))
		}
		return out
	}
	gold := func(cs ...model.Claim) []model.Claim {
		for i := range cs {
			cs[i] = cs[i].OfType("gold")
		}
		return cs
	}
	type m = map[string]int64
	for name, c := range map[string]struct {
		limits, used m
		claims       []model.Claim
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
		"nothing":        {m{"volumes": 0}, m{"volumes": 5}, nil, nil},
		"of the type":    {m{"volumes": 9, "volumes_gold": 1}, m{"volumes": 5, "volumes_gold": 1}, gold(vols(1)...), &model.QuotaError{Resource: "volumes_gold", Limit: 1, Used: 1, Requested: 1}},
		"of another":     {m{"volumes_silver": 0, "gigabytes_silver": 0}, m{}, gold(vols(1)...), nil},
		"type's bytes":   {m{"volumes": 9, "gigabytes_gold": 4}, m{"gigabytes_gold": 3}, gold(vols(1, 2)...), &model.QuotaError{Resource: "gigabytes_gold", Limit: 4, Used: 3, Requested: 3, Fit: 1}},
		"all over":       {m{"volumes": 0, "volumes_gold": 0, "gigabytes": 0, "gigabytes_gold": 0}, m{}, gold(vols(2)...), &model.QuotaError{Resource: "gigabytes", Requested: 2}},
		"all at once":    {m{"volumes": 0, "gigabytes": 0, "per_volume_gigabytes": 1}, m{}, vols(2), &model.QuotaError{Resource: "per_volume_gigabytes", Limit: 1, Requested: 2}},
		"snapshot":       {m{"snapshots": 1, "gigabytes": 9}, m{"snapshots": 1}, []model.Claim{model.SnapshotClaim(2)}, &model.QuotaError{Resource: "snapshots", Limit: 1, Used: 1, Requested: 1}},
		"its type's":     {m{"snapshots_gold": 0}, m{}, gold(model.SnapshotClaim(2)), &model.QuotaError{Resource: "snapshots_gold", Requested: 1}},
		"its bytes":      {m{"snapshots": 0, "gigabytes": 3}, m{"gigabytes": 2}, []model.Claim{model.SnapshotClaim(2)}, &model.QuotaError{Resource: "gigabytes", Limit: 3, Used: 2, Requested: 2}},
		"no size limit":  {m{"per_volume_gigabytes": 1}, m{}, []model.Claim{model.SnapshotClaim(2)}, nil},
		"backup":         {m{"backups": 0, "backup_gigabytes": 0, "volumes": 0, "gigabytes": 0}, m{}, []model.Claim{model.BackupClaim(2)}, &model.QuotaError{Resource: "backup_gigabytes", Requested: 2}},
		"group":          {m{"groups": 1}, m{"groups": 1}, gold(model.GroupClaim()), &model.QuotaError{Resource: "groups", Limit: 1, Used: 1, Requested: 1}},
		"extend":         {m{"gigabytes": 10, "volumes": 0, "per_volume_gigabytes": 8}, m{"gigabytes": 5, "volumes": 3}, []model.Claim{model.ExtendClaim(6, 8)}, &model.QuotaError{Resource: "gigabytes", Limit: 10, Used: 5, Requested: 6}},
		"extend too far": {m{"per_volume_gigabytes": 7}, m{}, []model.Claim{model.ExtendClaim(1, 8)}, &model.QuotaError{Resource: "per_volume_gigabytes", Limit: 7, Requested: 8}},
	} {
		t.Run(name, func(t *testing.T) {
			err := model.CheckQuota(c.limits, c.used, c.claims)
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
