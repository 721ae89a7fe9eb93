package tempest

import (
	"strings"
	"testing"
)

func TestConfig(t *testing.T) {
	c := Cloud{
		AuthURL: "http://192.0.2.1:5000/v3", Username: "admin", Password: "a$b", Image: "i1", DiskFormat: "raw",
		Features: Features{Snapshot: true, ManageVolume: true}, Set: map[string]string{"volume.build_timeout": "7", "scenario.img_file": "x"},
	}
	have := text(c.config("/w"))
	for _, want := range []string{
		"[auth]\nadmin_domain_name = Default\nadmin_password = a$$b\n", "uri_v3 = http://192.0.2.1:5000/v3\n", "nova = false\n", "build_timeout = 7\n",
		"[scenario]\nimg_file = x\n", "snapshot = true\n", "clone = false\n", "manage_volume = true\n", "manage_snapshot = false\n",
	} {
		if !strings.Contains(have, want) {
			t.Errorf("no %q in\n%s", want, have)
		}
	}
	if strings.Contains(have, "backend_names") {
		t.Error("there are backends")
	}
	c.Backends = []string{"fast", "slow"}
	if have := text(c.config("/w")); !strings.Contains(have, "[volume]\nbackend_names = fast,slow\n") {
		t.Errorf("no backends in\n%s", have)
	}
	if strings.Contains(have, "flavor_ref") {
		t.Error("an empty option stands there")
	}
	c.Flavor = "f1"
	if have := text(c.config("/w")); !strings.Contains(have, "nova = true\n") || !strings.Contains(have, "flavor_ref = f1\n") {
		t.Error("a flavour, and no compute service")
	}
}
