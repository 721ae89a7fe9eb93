package cli

import (
	"errors"
	"strings"
	"testing"
)

func TestEndpointURL(t *testing.T) {
	for in, want := range map[string]string{
		"http://10.0.0.1:8776":                    "http://10.0.0.1:8776/v3/%(project_id)s",
		"http://10.0.0.1:8776/":                   "http://10.0.0.1:8776/v3/%(project_id)s",
		"http://10.0.0.1:8776/v3":                 "http://10.0.0.1:8776/v3/%(project_id)s",
		"http://10.0.0.1:8776/v3/%(tenant_id)s":   "http://10.0.0.1:8776/v3/%(project_id)s",
		"https://cloud.example/volume/v3/":        "https://cloud.example/volume/v3/%(project_id)s",
		"https://[2001:db8::1]:8776":              "https://[2001:db8::1]:8776/v3/%(project_id)s",
		"https://cloud.example/volume":            "https://cloud.example/volume/v3/%(project_id)s",
		"":                                        "",
		"10.0.0.1:8776":                           "",
		"ftp://10.0.0.1":                          "",
		"http://user:secret@10.0.0.1":             "",
		"http://10.0.0.1/v3/0123456789abcdef":     "",
		"http://10.0.0.1:8776/?x=1":               "",
		"http://10.0.0.1:8776/v3/%(project_id)s/": "http://10.0.0.1:8776/v3/%(project_id)s",
	} {
		got, err := endpointURL(in)
		if got != want || (err == nil) != (want != "") || err != nil && !errors.As(err, new(usageError)) {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestPrintCatalog(t *testing.T) {
	rows := []registered{
		{Action: actionKeep, Kind: "user", Name: "vmthunder", Done: true},
		{Action: actionChange, Kind: "endpoint", Name: "volumev3 public R1", Value: "http://new", Before: "http://old"},
	}
	for _, x := range []struct {
		applied, asJSON bool
		want            string
	}{
		{false, false, "ACTION  KIND      NAME                VALUE\nkeep    user      vmthunder           \n" +
			"change  endpoint  volumev3 public R1  http://new (was http://old)\n1 to make or change; nothing has been done, --apply does it\n"},
		{true, false, "ACTION   KIND      NAME                VALUE\nkeep     user      vmthunder           \n" +
			"changed  endpoint  volumev3 public R1  http://new (was http://old)\n"},
		{true, true, `[
  {
    "action": "keep",
    "kind": "user",
    "name": "vmthunder",
    "done": true
  },
  {
    "action": "change",
    "kind": "endpoint",
    "name": "volumev3 public R1",
    "value": "http://new",
    "before": "http://old",
    "done": true
  }
]
`},
	} {
		rows[1].Done = x.applied
		var out strings.Builder
		if err := printCatalog(&out, rows, x.applied, x.asJSON); err != nil || out.String() != x.want {
			t.Errorf("%+v: %v, got\n%s", x, err, out.String())
		}
	}
}
