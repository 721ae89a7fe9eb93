package model

import (
	"encoding/json"
	"maps"
	"testing"
)

// What is read without package json is what that reads.
func FuzzStringMap(f *testing.F) {
	for _, s := range []string{
		`{}`, ` { } `, `{"a": "b"}`, `{"a":"b","c" : "d"}`, `{"a": "b", "a": "c"}`, `{"":""}`, `{"ä": "日本"}`, `{"a": "b"`, `{"a"}`, `{"a":}`,
		`{"a": 1}`, `{"a": null}`, `{"a": "b",}`, `{,}`, `{"a": "b"} x`, `null`, `[]`, `"a"`, ``, `{"a": "\u00e4\""}`, "{\"a\": \"\x01\"}",
		"{\"a\": \"\xff\"}", `{"a" "b"}`, `{"a": "b" "c": "d"}`, `{"a": "b"}}`, `{"image_id": "6edbc2f4", "size": "512", "min_disk": "0"}`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := plainMap(s)
		if !ok {
			return
		}
		var want StringMap
		if err := json.Unmarshal([]byte(s), &want); err != nil || !maps.Equal(got, want) {
			t.Errorf("%q: %v, package json has %v (%v)", s, got, want, err)
		}
	})
}

func TestPlainMap(t *testing.T) {
	for s, n := range map[string]int{`{}`: 0, `{"a": "b"}`: 1, `{"ä": "", "": "日本", "c": "{}"}`: 3} {
		if m, ok := plainMap(s); !ok || len(m) != n {
			t.Errorf("%s: %v %v, it is plain", s, m, ok)
		}
	}
}

func BenchmarkStringMap(b *testing.B) {
	in := []byte(`{"size": "67108864", "checksum": "44fe3ef3b6ea1f5b6dc1f5b6dc", "image_id": "6edbc2f4-1507-44f8-ac0d-eed1d2608d38", "min_ram": "0", "min_disk": "1", "image_name": "ubuntu12", "disk_format": "raw", "container_format": "bare", "signature_verified": "False"}`)
	for b.Loop() {
		var m StringMap
		if err := m.Scan(in); err != nil {
			b.Fatal(err)
		}
	}
}
