package model_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/vmthunder/vmthunder/db/model"
)

// TestFrontEndQoS: what Cinder's volume manager makes of the same specs for a volume of 10 GiB.
func TestFrontEndQoS(t *testing.T) {
	for name, c := range map[string]struct {
		consumer string
		specs    model.StringMap
		want     string
	}{
		"back-end":          {"back-end", model.StringMap{"a": "1"}, `null`},
		"front-end":         {"front-end", model.StringMap{"read_iops_sec": "100"}, `{"read_iops_sec":"100"}`},
		"both":              {"both", model.StringMap{"x": "y"}, `{"x":"y"}`},
		"none":              {"both", nil, `{}`},
		"per GiB":           {"both", model.StringMap{"read_iops_sec_per_gb": "30"}, `{"read_iops_sec":300}`},
		"at least":          {"both", model.StringMap{"total_bytes_sec_per_gb": "1", "total_bytes_sec_per_gb_min": "50"}, `{"total_bytes_sec":50}`},
		"at most":           {"both", model.StringMap{"write_iops_sec_per_gb": "30", "write_iops_sec_max": "200"}, `{"write_iops_sec":200}`},
		"between":           {"both", model.StringMap{"write_bytes_sec_per_gb": "3", "write_bytes_sec_per_gb_min": "20", "write_bytes_sec_max": "200"}, `{"write_bytes_sec":30}`},
		"instead":           {"both", model.StringMap{"read_bytes_sec": "7", "read_bytes_sec_per_gb": "3"}, `{"read_bytes_sec":30}`},
		"max alone":         {"both", model.StringMap{"total_iops_sec_max": "5"}, `{"total_iops_sec_max":"5"}`},
		"no number":         {"both", model.StringMap{"total_iops_sec_per_gb": "many", "x": "y"}, `{"total_iops_sec_per_gb":"many","x":"y"}`},
		"of something else": {"both", model.StringMap{"size_iops_sec_per_gb": "3"}, `{"size_iops_sec_per_gb":"3"}`},
	} {
		q := &model.QoS{Consumer: c.consumer, Specs: c.specs}
		b, err := json.Marshal(q.FrontEnd(10))
		if err != nil || string(b) != c.want {
			t.Errorf("%s: %s, want %s (%v)", name, b, c.want, err)
		}
	}
	if (*model.QoS)(nil).FrontEnd(1) != nil {
		t.Error("no QoS is not nothing")
	}
}

func TestEventText(t *testing.T) {
	for e, want := range map[model.Event]string{
		"VOLUME_VOLUME_001_003":          "schedule allocate volume:Could not find any available weighted backend.",
		"VOLUME_VOLUME_005_007":          "copy image to volume:Image used for creating volume exceeds available space.",
		"VOLUME_VOLUME_SNAPSHOT_009_013": "create snapshot:Snapshot failed to create.",
		"VOLUME_VOLUME_007_009":          "extend volume:Compute service failed to extend volume.",
		"VOLUME_VOLUME_003_004":          "copy volume to image:Failed to upload volume to image at backend.",
		"VOLUME_VOLUME_999_999":          "unknown action:An unknown error occurred.",
		"":                               "unknown action:An unknown error occurred.",
	} {
		if got := e.Text(); got != want {
			t.Errorf("%s: %q, want %q", e, got, want)
		}
	}
	e := model.NewEvent(model.ResourceVolume, model.ActionAttachVolume, model.DetailAttachFailed)
	v := &model.Volume{ProjectID: "p", RequestID: "req-1"}
	if m := model.VolumeMessage(e, v, "no room"); m.EventID != "VOLUME_VOLUME_002_021" ||
		m.UserMessage != "attach volume:Failed to attach volume. (no room)" || m.ProjectID != "p" || m.RequestID != "req-1" || *m.ResourceUUID != v.ID {
		t.Errorf("%+v", m)
	}
	if got := e.Because(""); got != e.Text() {
		t.Errorf("without a reason: %q", got)
	}
}

func TestTransferKey(t *testing.T) {
	key, salt := model.NewTransferKey()
	other, salt2 := model.NewTransferKey()
	if len(key) != 16 || len(salt) != 16 || key == other || salt == salt2 || strings.Trim(key+salt, "0123456789abcdef") != "" {
		t.Fatalf("keys %q %q, salts %q %q", key, other, salt, salt2)
	}
	x := model.Transfer{Salt: salt, KeyHash: model.HashTransferKey(salt, key)}
	for k, want := range map[string]bool{key: true, other: false, "": false, key + " ": false, x.KeyHash: false, strings.ToUpper(key) + "G": false} {
		if x.Opens(k) != want {
			t.Errorf("%q opens: %v", k, !want)
		}
	}
	// RFC 4231, test case 2.
	if got := model.HashTransferKey("Jefe", "what do ya want for nothing?"); got != "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843" {
		t.Errorf("hash %s", got)
	}
	if (&model.Transfer{}).Opens("") {
		t.Error("a transfer without a key is open to all")
	}
}
