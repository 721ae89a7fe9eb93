package microversion_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/microversion"
)

func TestNegotiate(t *testing.T) {
	for _, c := range []struct {
		header  []string
		version microversion.Version
		status  int
		message string
	}{
		{nil, 0, 0, ""},
		{[]string{"volume 3.0"}, 0, 0, ""},
		{[]string{"volume 3.70"}, 70, 0, ""},
		{[]string{"volume latest"}, 70, 0, ""},
		{[]string{"compute 2.1, volume 3.27"}, 27, 0, ""},
		{[]string{"compute 2.1", "volume 3.27"}, 27, 0, ""},
		{[]string{"  volume   3.5  "}, 5, 0, ""},
		{[]string{"volume 3.71"}, 0, 406, "Version 3.71 is not supported by the API. Minimum is 3.0 and maximum is 3.70."},
		{[]string{"volume 2.0"}, 0, 406, "Version 2.0 is not supported by the API. Minimum is 3.0 and maximum is 3.70."},
		{[]string{"volume 3.x"}, 0, 400, "API Version String 3.x is of invalid format. Must be of format MajorNum.MinorNum."},
		{[]string{"volume 3.01"}, 0, 400, "API Version String 3.01 is of invalid format. Must be of format MajorNum.MinorNum."},
		{[]string{"volume 3.99999999999999999999"}, 0, 400, "API Version String 3.99999999999999999999 is of invalid format. Must be of format MajorNum.MinorNum."},
		{[]string{"volume"}, 0, 400, "API Version String volume is of invalid format. Must be of format MajorNum.MinorNum."},
		{[]string{"compute 2.1"}, 0, 400, "API version None is not supported on this method."},
		{[]string{""}, 0, 400, "API version None is not supported on this method."},
	} {
		h := http.Header{}
		for _, v := range c.header {
			h.Add(microversion.Header, v)
		}
		v, err := microversion.Negotiate(h)
		var f *fault.Fault
		switch {
		case c.status == 0 && (err != nil || v != c.version):
			t.Errorf("%q: %v, %v", c.header, v, err)
		case c.status != 0 && (!errors.As(err, &f) || f.Status != c.status || f.Message != c.message):
			t.Errorf("%q: %v", c.header, err)
		}
	}
}

func FuzzNegotiate(f *testing.F) {
	f.Add("volume 3.5")
	f.Add("volume latest,compute 2.1")
	f.Fuzz(func(t *testing.T, s string) {
		v, err := microversion.Negotiate(http.Header{microversion.Header: {s}})
		if v < 0 || v > microversion.Max || err != nil && v != 0 {
			t.Errorf("%q: %v, %v", s, v, err)
		}
	})
}
