package tempest

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// testdata/run.subunit is cut from a run of tempest 33; one test in it has not ended.
func captured(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/run.subunit")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReadResults(t *testing.T) {
	rs, err := ReadResults(bytes.NewReader(captured(t)))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for i := range rs {
		if rs[i].Outcome == Passed && (rs[i].Time <= 0 || rs[i].Time > 10*time.Minute) {
			t.Errorf("%s took %s", rs[i].Test, rs[i].Time)
		}
		rs[i].Time = 0
	}
	if err := rs.Write(&out); err != nil {
		t.Fatal(err)
	}
	const admin = "tempest.api.volume.admin."
	want := strings.Join([]string{
		"failed\t0.00\tsetUpClass (" + admin + "test_qos.QosSpecsTestJSON)\tBadRequest: Bad request Details: {'code': 400, 'message': 'Invalid input received: QoS is not supported by this backend yet.'}",
		"passed\t0.00\t" + admin + "test_backends_capabilities.BackendsCapabilitiesAdminTestsJSON.test_compare_volume_stats_values\t",
		"passed\t0.00\t" + admin + "test_backends_capabilities.BackendsCapabilitiesAdminTestsJSON.test_get_capabilities_backend\t",
		"skipped\t0.00\t" + admin + "test_encrypted_volumes_extend.EncryptedVolumesExtendAttachedTest.test_extend_attached_encrypted_volume_luksv2\tAttached encrypted volume extend is disabled.",
		"failed\t0.00\t" + admin + "test_groups.GroupsTest.test_group_create_show_list_delete\tBadRequest: Bad request Details: {'code': 400, 'message': 'Invalid input received: Grouping volumes is not supported by this backend yet.'}",
		"failed\t0.00\t" + admin + "test_groups.GroupsTest.test_group_update\tBadRequest: Bad request Details: {'code': 400, 'message': 'Invalid input received: Grouping volumes is not supported by this backend yet.'}",
		"failed\t0.00\ttempest.api.volume.Unfinished.test_x\tit has not ended",
	}, "\n") + "\n"
	got := out.String()
	for _, line := range strings.SplitAfter(want, "\n") {
		if !strings.Contains(got, line) {
			t.Errorf("missing: %s", line)
		}
	}
	if c := rs.Count(); c != (Count{Tests: 6, Passed: 2, Failed: 3, Skipped: 1, ClassesFailed: 1, ClassesSkipped: 1}) {
		t.Errorf("count %+v", c)
	}
	f := rs.Failures()
	if len(f) != 4 || !f[0].Class() || strings.Count(f[0].Detail, "Traceback") != 1 {
		t.Errorf("%d failures, the first %+v", len(f), f)
	}
}

func TestStreamIsRefused(t *testing.T) {
	b := captured(t)
	for name, broken := range map[string][]byte{
		"cut off":      b[:len(b)-3],
		"a wrong byte": bytes.Replace(b, []byte("worker-2"), []byte("worker-9"), 1),
		"no packet":    {signature, 0x28, 0x13, 0x01},
	} {
		if _, err := ReadResults(bytes.NewReader(broken)); !errors.Is(err, errStream) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if rs, err := ReadResults(strings.NewReader("only words\n")); err != nil || len(rs) != 0 {
		t.Errorf("words: %v, %v", rs, err)
	}
}

func TestFirstError(t *testing.T) {
	for trace, want := range map[string]string{
		"Traceback (most recent call last):\n  File \"/a.py\", line 1, in f\n    g()\n    ^^^\ntesttools.matchers._impl.MismatchError: 1 != 2: sizes\n": "MismatchError: 1 != 2: sizes",
		"  File \"/a.py\", line 1, in f\n    g()\nE: first\n\nDuring handling of the above exception, another exception occurred:\n\n" +
			"  File \"/b.py\", line 2, in g\nF: second\nmore\n": "F: second more",
		"": "",
	} {
		if got := firstError(trace); got != want {
			t.Errorf("%q: %q, want %q", trace, got, want)
		}
	}
}

func FuzzReadResults(f *testing.F) {
	f.Add(captured(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := ReadResults(bytes.NewReader(b)); err != nil && !errors.Is(err, errStream) {
			t.Error(err)
		}
	})
}
