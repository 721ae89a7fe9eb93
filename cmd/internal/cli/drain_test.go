package cli

import (
	"strings"
	"testing"

	"github.com/vmthunder/vmthunder/api/v3/view"
)

func TestPrintDrain(t *testing.T) {
	name := "vm-1"
	for _, x := range []struct {
		name string
		d    view.Drain
		want string
	}{
		{"free", view.Drain{Host: "n1"}, "n1 is free: nobody reads from it, and no volume lives there\n"},
		{"read from", view.Drain{Host: "n1", Readers: 1, Images: 1, OnlyRoots: []string{"i1", "i2"}}, "n1 has 1 reader of 1 image; the only origin of 2 images still; doctor may say why\n"},
		{"volumes", view.Drain{Host: "n1", Volumes: []view.DrainVolume{
			{ID: "v1", Name: &name, Project: "p", Status: "in-use", Attached: []string{"n1", "n2"}},
			{ID: "v2", Project: "p", Status: "available"},
			{ID: "v3", Project: "p", Status: "available", Empty: true},
		}}, `3 volumes at n1:

ID  NAME  PROJECT  STATUS     ATTACHED AT  TO DO
v1  vm-1  p        in-use     n1 n2        detach it, or move its server away and detach it there
v2        p        available               openstack volume migrate --host HOST v2
v3        p        available               nothing was written to it: openstack volume migrate moves it at once
`},
	} {
		var b strings.Builder
		if err := printDrain(&b, x.d); err != nil || b.String() != x.want {
			t.Errorf("%s: %v\n%s", x.name, err, b.String())
		}
	}
}
