package v3

import (
	"net/url"
	"reflect"
	"testing"

	"github.com/vmthunder/vmthunder/db/model"
)

func TestParseDict(t *testing.T) {
	for in, want := range map[string]model.StringMap{
		`{"a":"b"}`: {"a": "b"}, `{'a': 'b'}`: {"a": "b"}, `{u'a': u'b"c'}`: {"a": `b"c`}, `{'a': "it's"}`: {"a": "it's"}, `{"a":1}`: {"a": "1"},
		`{'a\'b': 'c'}`: {"a'b": "c"}, `{}`: {}, `{'u': 'uu'}`: {"u": "uu"},
		`x`: nil, `{'a'`: nil, `null`: nil, `["a"]`: nil, `{'a': 'b`: nil,
	} {
		got, ok := parseDict(in)
		if ok != (want != nil) || ok && !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v %v", in, got, ok)
		}
	}
}

func FuzzParseDict(f *testing.F) {
	for _, s := range []string{`{"a":"b"}`, `{'a': 'b'}`, `{u'a': u'b"c'}`, `{'a`, `u'`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if m, ok := parseDict(s); ok && m == nil {
			t.Error("nil map")
		}
	})
}

func FuzzQuery(f *testing.F) {
	f.Add("limit=1&sort=name:asc,size&created_at=gt:2020-01-01,lt:x&name~=a&metadata={'a':'b'}", 70, true)
	f.Fuzz(func(t *testing.T, raw string, mv int, admin bool) {
		q, err := url.ParseQuery(raw)
		if err != nil {
			return
		}
		a := &API{Config{MaxLimit: 1000, Filters: DefaultFilters()}}
		p, err := a.paging(q, volumeSorts())
		if err == nil && (p.limit > 1000 || p.limit < -1 || p.offset < 0) {
			t.Errorf("page %+v", p)
		}
		if err != nil && toFault(err).Status >= 500 {
			t.Error(err)
		}
		r := filterRules{allowed: a.filtersOf("volume"), columns: volumeColumns(), admin: admin, mv: 0}
		if mv > 0 && mv <= 70 {
			r.mv = 70
		}
		filters, _, err := r.parse(q)
		if err != nil && toFault(err).Status >= 500 {
			t.Error(err)
		}
		for _, f := range filters {
			if f.Column == "" || f.Op == "" {
				t.Errorf("filter %+v", f)
			}
		}
	})
}
