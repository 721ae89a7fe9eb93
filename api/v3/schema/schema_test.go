package schema_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/v3/schema"
)

func object(t *testing.T, body string) *schema.Object {
	t.Helper()
	o, err := schema.Parse([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// get reads one value of any kind and returns it as JSON, or the message of the refusal.
func get(o *schema.Object, kind, key string) string {
	var v any
	var err error
	switch kind {
	case "int":
		v, err = o.Int(key, 1, schema.MaxInt)
	case "string":
		v, err = o.String(key, 1, 5)
	case "text":
		v, err = o.Text(key, 1, 5)
	case "bool":
		v, err = o.Bool(key)
	case "uuid":
		v, err = o.UUID(key)
	case "map":
		v, err = o.Strings(key)
	case "enum":
		v, err = o.Enum(key, "rw", "ro")
	}
	if err != nil {
		var f *fault.Fault
		if !errors.As(err, &f) || f.Status != 400 {
			return "no fault: " + err.Error()
		}
		return f.Message
	}
	b, _ := json.Marshal(v)
	return string(b)
}

func TestValues(t *testing.T) {
	const pre = "Invalid input for field/attribute x. Value: "
	for _, c := range []struct{ kind, value, want string }{
		{"int", `3`, `3`}, {"int", `"3"`, `3`}, {"int", `null`, `null`},
		{"int", `0`, pre + "0. 0 is less than the minimum of 1"}, {"int", `"0"`, pre + "0. 0 is less than the minimum of 1"},
		{"int", `-1`, pre + "-1. -1 is less than the minimum of 1"}, {"int", `"-1"`, pre + "-1. '-1' does not match '^[0-9]+$'"},
		{"int", `"abc"`, pre + "abc. 'abc' does not match '^[0-9]+$'"}, {"int", `""`, pre + ". '' does not match '^[0-9]+$'"},
		{"int", `1.5`, pre + "1.5. 1.5 is not of type 'integer', 'string'"}, {"int", `true`, pre + "True. True is not of type 'integer', 'string'"},
		{"int", `[1]`, pre + "[1]. [1] is not of type 'integer', 'string'"}, {"int", `1e999`, pre + "1e999. 1e999 is not of type 'integer', 'string'"},
		{"int", `99999999999999999999`, pre + "99999999999999999999. 99999999999999999999 is greater than the maximum of 2147483647"},
		{"string", `"abc"`, `"abc"`}, {"string", `null`, `null`}, {"string", `"äöüäö"`, `"äöüäö"`},
		{"string", `""`, pre + ". '' is too short"}, {"string", `"abcdef"`, pre + "abcdef. 'abcdef' is too long"},
		{"string", `1`, pre + "1. 1 is not of type 'string', 'null'"}, {"string", `"a\u0000"`, pre + "a\x00. 'a\\x00' does not match '^[^\\\\x00]*$'"},
		{"text", `null`, pre + "None. None is not of type 'string'"},
		{"bool", `true`, `true`}, {"bool", `"False"`, `false`}, {"bool", `"on"`, `true`}, {"bool", `0`, `false`}, {"bool", `null`, `null`},
		{"uuid", `"3a9b1c58-7f5b-4a39-9a5c-6a2a2f3a2a11"`, `"3a9b1c58-7f5b-4a39-9a5c-6a2a2f3a2a11"`},
		{"uuid", `"3a9b1c587f5b4a399a5c6a2a2f3a2a11"`, `"3a9b1c58-7f5b-4a39-9a5c-6a2a2f3a2a11"`},
		{"uuid", `"x"`, pre + "x. 'x' is not a 'uuid'"},
		{"map", `{"a":"b"}`, `{"a":"b"}`}, {"map", `null`, `null`}, {"map", `{}`, `{}`},
		{"map", `{"a":null}`, "Invalid input for field/attribute a. Value: None. None is not of type 'string'"},
		{"map", `[]`, pre + "[]. [] is not of type 'object'"},
		{"map", `{"":"b"}`, pre + "{'': 'b'}. '' does not match any of the regexes: '^.{1,255}$'"},
		{"enum", `"rw"`, `"rw"`}, {"enum", `"x"`, pre + "x. 'x' is not one of ['rw', 'ro']"},
	} {
		if got := get(object(t, `{"x":`+c.value+`}`), c.kind, "x"); got != c.want {
			t.Errorf("%s %s:\n got %s\nwant %s", c.kind, c.value, got, c.want)
		}
	}
}

func TestShape(t *testing.T) {
	for body, want := range map[string]string{
		``: "None is not of type 'object'", `null`: "None is not of type 'object'", `[]`: "[] is not of type 'object'",
		`{`: "Malformed request body", `{"a":1}x`: "Malformed request body",
	} {
		var f *fault.Fault
		if _, err := schema.Parse([]byte(body)); !errors.As(err, &f) || f.Message != want {
			t.Errorf("%q: %v", body, err)
		}
	}
	o := object(t, `{"volume":{"b":1,"a%s":"it's"}}`)
	for _, err := range []error{o.Only("volume"), o.Require("volume")} {
		if err != nil {
			t.Error(err)
		}
	}
	in, err := o.Object("volume")
	if err != nil {
		t.Fatal(err)
	}
	var f *fault.Fault
	const want = `Invalid input for field/attribute volume. Value: {'b': 1, 'a%s': "it's"}. Additional properties are not allowed ('a%s' was unexpected)`
	if !errors.As(in.Only("b"), &f) || f.Message != want {
		t.Errorf("%v", f)
	}
	if !errors.As(o.Require("x"), &f) || f.Message != "'x' is a required property" {
		t.Errorf("%v", f)
	}
	if x, err := o.Optional("x"); x != nil || err != nil {
		t.Errorf("%v %v", x, err)
	}
}

// FuzzObject: no body makes a validator fail otherwise than by a 400.
func FuzzObject(f *testing.F) {
	for _, s := range []string{`{"x":1}`, `{"x":"1e5"}`, `{"x":{"a":[null,true,"\u0000"]}}`, `{"x":1e400}`, `{"x":"\ud800"}`, `[`, `{"x":1,"x":2}`, `{"x":1e-999999999}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		schema.Repr(body)
		o, err := schema.Parse(body)
		if err != nil {
			return
		}
		for _, kind := range []string{"int", "string", "text", "bool", "uuid", "map", "enum"} {
			for _, key := range o.Keys() {
				if got := get(o, kind, key); len(got) > 8 && got[:8] == "no fault" {
					t.Error(got)
				}
			}
		}
		_ = o.Only("x")
		if _, err := o.Optional("x"); err != nil {
			_ = err.Error()
		}
	})
}
