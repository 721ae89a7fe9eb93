package rpc

import (
	"fmt"
	"testing"
)

func TestMemoryIsBounded(t *testing.T) {
	m := newMemory(3, 100)
	for i := range 10 {
		s, v := m.begin(fmt.Sprint(i), Delivery{})
		if v != fresh {
			t.Fatal(v)
		}
		if _, v := m.begin(fmt.Sprint(i), Delivery{}); v != joined {
			t.Fatal(v)
		}
		m.finish(s, make([]byte, 10), "q")
		if n := len(m.take(s)); n != 2 {
			t.Fatalf("%d deliveries", n)
		}
	}
	for i := range 10 {
		want := fresh
		if i >= 7 {
			want = answered
		}
		s, v := m.begin(fmt.Sprint(i), Delivery{})
		if v != want {
			t.Errorf("%d: %v", i, v)
		}
		if v == fresh {
			m.forget(s)
		}
	}
	// A large reply displaces the others, but is itself kept.
	s, _ := m.begin("large", Delivery{})
	m.finish(s, make([]byte, 1000), "q")
	if _, v := m.begin("large", Delivery{}); v != answered || m.finished.Len() != 1 {
		t.Errorf("%v, %d kept", v, m.finished.Len())
	}
	// Requests without an id are never taken for one another.
	if _, v := m.begin("", Delivery{}); v != fresh {
		t.Error(v)
	}
	if s, v := m.begin("", Delivery{}); v != fresh {
		t.Error(v)
	} else {
		m.finish(s, nil, "")
	}
	if m.bytes != 1000 || len(m.seen) != 1 {
		t.Errorf("%d bytes, %d seen", m.bytes, len(m.seen))
	}
}

func TestCompatible(t *testing.T) {
	for _, c := range []struct {
		have, want string
		ok         bool
	}{
		{"1.3", "1.0", true},
		{"1.3", "1.3", true},
		{"1.3", "1.4", false},
		{"1.3", "2.0", false},
		{"1.3", "", true},
		{"", "1.0", true},
		{"", "1.1", false},
		{"1.3", "x", false},
		{"1.10", "1.9", true},
		{"2", "2.0", true},
	} {
		if compatible(c.have, c.want) != c.ok {
			t.Errorf("%+v", c)
		}
	}
}
