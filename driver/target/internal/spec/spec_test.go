package spec

import (
	"strings"
	"testing"

	"github.com/vmthunder/vmthunder/driver"
)

func good() driver.Target {
	return driver.Target{
		IQN: driver.ImageIQN("Host_1", "6c1d6d41-8c2b-4bb1-8b53-6d9f3a6a0f0a"), Device: "/dev/mapper/vmthunder-image-x-relay",
		Portal: "10.0.0.1:3260", Serial: "6c1d6d41-8c2b-4bb1-8b53-6d9f3a6a0f0a",
		ACLs: []driver.ACL{{Initiator: "iqn.1993-08.org.debian:01:81493ae137e3", Credential: driver.Credential{User: "node-1", Secret: "0123456789ab"}}},
	}
}

func TestCheck(t *testing.T) {
	if err := Check(good()); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*driver.Target){
		"path in IQN":        func(t *driver.Target) { t.IQN = "iqn.2014-05.org.vmthunder:../../x" },
		"upper case IQN":     func(t *driver.Target) { t.IQN = "iqn.2014-05.org.vmthunder:X" },
		"empty IQN":          func(t *driver.Target) { t.IQN = "" },
		"relative device":    func(t *driver.Target) { t.Device = "dev/sda" },
		"comma in device":    func(t *driver.Target) { t.Device = "/dev/sda,readonly=0" },
		"newline in device":  func(t *driver.Target) { t.Device = "/dev/sda\n" },
		"portal with name":   func(t *driver.Target) { t.Portal = "host:3260" },
		"long serial":        func(t *driver.Target) { t.Serial = strings.Repeat("a", 37) },
		"comma in serial":    func(t *driver.Target) { t.Serial = "a,readonly=0" },
		"slash in initiator": func(t *driver.Target) { t.ACLs[0].Initiator = "iqn.2014-05.org:a/b" },
		"same initiator":     func(t *driver.Target) { t.ACLs = append(t.ACLs, t.ACLs[0]) },
		"no user":            func(t *driver.Target) { t.ACLs[0].User = "" },
		"comma in user":      func(t *driver.Target) { t.ACLs[0].User = "a,b" },
		"short secret":       func(t *driver.Target) { t.ACLs[0].Secret = "short-hidden"[:11] },
		"long secret":        func(t *driver.Target) { t.ACLs[0].Secret = strings.Repeat("hidden", 3) },
		"unset secret":       func(t *driver.Target) { t.ACLs[0].Secret = "NULLhidden00" },
	} {
		tt := good()
		spoil(&tt)
		err := Check(tt)
		if err == nil {
			t.Errorf("%s: no error", name)
		} else if strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: the error tells the secret: %v", name, err)
		}
	}
}
