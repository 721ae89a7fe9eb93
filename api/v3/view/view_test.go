package view_test

import (
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/api/v3/view"
	"github.com/vmthunder/vmthunder/db/model"
)

func TestProgress(t *testing.T) {
	for want, i := range map[string]*model.Image{
		"queued": nil, "queued ": {Status: model.ImageQueued, Phase: "x"}, "importing": {Status: model.ImageImporting},
		"convert":                   {Status: model.ImageImporting, Phase: "convert"},
		"download 34% of 512 MiB":   {Status: model.ImageImporting, Phase: "download", Done: 175 << 20, Total: 512 << 20},
		"download 100% of 1.5 GiB":  {Status: model.ImageImporting, Phase: "download", Done: 9 << 30, Total: 3 << 29},
		"download 0% of 1000 B":     {Status: model.ImageImporting, Phase: "download", Total: 1000},
		"download 99% of 2.001 KiB": {Status: model.ImageImporting, Phase: "download", Done: 2048, Total: 2049},
	} {
		if got := view.Progress(i); got != want && got+" " != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestTime(t *testing.T) {
	at := time.Date(2026, 11, 23, 9, 52, 24, 147300999, time.FixedZone("x", 7200))
	if s := view.Time(at); s != "2026-11-23T07:52:24.147300" {
		t.Error(s)
	}
	if view.TimeOrNil(nil) != nil || view.TimeOrNil(&time.Time{}) != nil {
		t.Error("no time is not null")
	}
}
