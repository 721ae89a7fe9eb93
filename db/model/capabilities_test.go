package model

import "testing"

func TestLacks(t *testing.T) {
	c := Backend{Name: "vmthunder", Version: "1"}.Capabilities(&Node{PoolTotal: 100 << 30, PoolFree: 40 << 30, Address: "a,b"})
	for _, x := range []struct {
		key, want string
		fulfilled bool
	}{
		{"volume_backend_name", "vmthunder", true},
		{"volume_backend_name", "lvm", false},
		{"capabilities:volume_backend_name", "vmthunder", true},
		{"storage_protocol", "<in> SCSI", true},
		{"storage_protocol", "<in> FC", false},
		{"storage_protocol", "<or> FC <or> iSCSI", true},
		{"storage_protocol", "<or> FC <or> NFS", false},
		{"storage_protocol", "<or>", false},
		{"vendor_name", "s== VMThunder", true},
		{"vendor_name", "s!= VMThunder", false},
		{"vendor_name", "s>= VM", true},
		{"vendor_name", "s< VM", false},
		{"vendor_name", "s==", false},
		{"free_capacity_gb", ">= 40", true},
		{"free_capacity_gb", "= 41", false},
		{"free_capacity_gb", "<= 39.5", false},
		{"free_capacity_gb", "== 40.0", true},
		{"free_capacity_gb", "!= x", false},
		{"max_over_subscription_ratio", ">= 20", true},
		{"multiattach", "<is> True", true},
		{"multiattach", "<is> no", false},
		{"multiattach", "True", false}, // a word is compared with words, as Cinder does
		{"replication_enabled", "<is> False", true},
		{"replication_enabled", "<is> True", false},
		{"filter_function", "<in> x", false},
		{"filter_function", "", false},
		{"compression", "<is> True", false},
		{"RESKEY:availability_zones", "az1", true}, // asks nothing of a pool
		{"vmthunder:degree", "4", true},
	} {
		lack := c.Lacks(StringMap{x.key: x.want})
		if (lack == "") != x.fulfilled {
			t.Errorf("%s=%q: lacks %q", x.key, x.want, lack)
		}
		if want := x.key + "=" + x.want; !x.fulfilled && lack != want {
			t.Errorf("%q, want %q", lack, want)
		}
	}
	if got := c.Lacks(StringMap{"b": "1", "a": "1", "multiattach": "<is> True"}); got != "a=1" {
		t.Errorf("of two the first is named: %q", got)
	}
}

func TestCapabilityIs(t *testing.T) {
	c := Backend{Name: "b", ReservedPercentage: 5}.Capabilities(&Node{PoolTotal: 100 << 30})
	for _, x := range []struct {
		name, value string
		want        bool
	}{
		{"volume_backend_name", "b", true}, {"volume_backend_name", "c", false}, {"none", "", false},
		{"multiattach", "true", true}, {"multiattach", "False", false},
		{"total_capacity_gb", "100.0", true}, {"total_capacity_gb", "many", false}, {"reserved_percentage", "5", true},
	} {
		if got := c.Is(x.name, x.value); got != x.want {
			t.Errorf("%s is %q: %v", x.name, x.value, got)
		}
	}
}

func TestBackendNames(t *testing.T) {
	nodes := []Node{{Host: "n1"}, {Host: "n2", Backend: "ssd"}}
	for _, x := range []struct{ of, name, n1, n2 string }{
		{"", "", "n1@vmthunder#vmthunder", "n2@ssd#vmthunder"},
		{"hdd", "", "n1@hdd#vmthunder", "n2@ssd#vmthunder"},
	} {
		b := Backend{Name: x.of}
		for i, want := range []string{x.n1, x.n2} {
			n := &nodes[i]
			pool := b.PoolName(n.Host, n.Backend)
			if pool != want || pool != b.HostName(n.Host, n.Backend)+"#vmthunder" || b.Capabilities(n)["volume_backend_name"] != b.NameOf(n.Backend) {
				t.Errorf("of %q: %s is %s, want %s", x.of, n.Host, pool, want)
			}
			for _, name := range []string{n.Host, b.HostName(n.Host, n.Backend), pool} {
				if got := b.NodeOf(name, nodes); got != n {
					t.Errorf("of %q: %s means %v", x.of, name, got)
				}
			}
		}
	}
	for _, name := range []string{"", "@vmthunder", "n1@ssd", "n2@vmthunder", "n2@", "n1@vmthunder#other", "n1#vmthunder", "n3", "n2@ssd#"} {
		if got := (Backend{}).NodeOf(name, nodes); got != nil {
			t.Errorf("%q means %v", name, got)
		}
	}
}
