// Package schema checks request bodies and says what is wrong in the words of Cinder's
// validation (cinder/api/validation, which is jsonschema). Errors are *fault.Fault, 400.
//
// In bodies of this API null and absent mean the same nearly everywhere, and numbers and
// booleans may be strings; the accessors take all that.
package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/vmthunder/vmthunder/api/fault"
)

// Object is a JSON object of a body.
type Object struct {
	name string // its key in the outer object, "" for the body itself
	raw  json.RawMessage
	keys []string // in the order of the body
	vals map[string]json.RawMessage
}

// Parse reads a body. No body at all is what Python calls None.
func Parse(body []byte) (*Object, error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, fault.BadRequest("None is not of type 'object'")
	}
	if !utf8.Valid(body) || !json.Valid(body) {
		return nil, fault.BadRequest("Malformed request body")
	}
	return parse("", body)
}

// Empty is {}.
func Empty() *Object { return &Object{raw: json.RawMessage("{}"), vals: map[string]json.RawMessage{}} }

func parse(name string, raw json.RawMessage) (*Object, error) {
	o := &Object{name: name, raw: raw, vals: map[string]json.RawMessage{}}
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		if name == "" {
			return nil, fault.BadRequest("%s is not of type 'object'", Repr(raw))
		}
		return nil, invalid(name, raw, "%s is not of type 'object'", Repr(raw))
	}
	for d.More() {
		t, err := d.Token()
		key, ok := t.(string)
		var v json.RawMessage
		if err = errors.Join(err, d.Decode(&v)); err != nil || !ok {
			return nil, fault.BadRequest("Malformed request body")
		}
		if _, again := o.vals[key]; !again {
			o.keys = append(o.keys, key)
		}
		o.vals[key] = v
	}
	return o, nil
}

// invalid is Cinder's form for a value that does not fit.
func invalid(field string, raw json.RawMessage, format string, args ...any) error {
	f := fault.BadRequest(format, args...)
	f.Message = "Invalid input for field/attribute " + field + ". Value: " + Str(raw) + ". " + f.Message
	return f
}

// Invalid refuses the value of a key for a reason of the caller's.
func (o *Object) Invalid(key, format string, args ...any) error {
	return invalid(key, o.vals[key], format, args...)
}

// InvalidSelf refuses the object as a whole.
func (o *Object) InvalidSelf(format string, args ...any) error {
	return invalid(o.name, o.raw, format, args...)
}

// Keys in the order of the body.
func (o *Object) Keys() []string { return o.keys }

// Raw is the value of a key, nil if it is not there.
func (o *Object) Raw(key string) json.RawMessage { return o.vals[key] }

// Self is the object's own text.
func (o *Object) Self() json.RawMessage { return o.raw }

// Given tells whether the key is there, be it null.
func (o *Object) Given(key string) bool { return o.vals[key] != nil }

// Has tells whether the key is there and not null.
func (o *Object) Has(key string) bool {
	v := bytes.TrimSpace(o.vals[key])
	return len(v) > 0 && !bytes.Equal(v, []byte("null"))
}

// Only refuses keys that are not named.
func (o *Object) Only(keys ...string) error {
	var extra []string
	for _, k := range o.keys {
		if !slices.Contains(keys, k) {
			extra = append(extra, quote(k))
		}
	}
	if len(extra) == 0 {
		return nil
	}
	verb := "was"
	if len(extra) > 1 {
		verb = "were"
	}
	msg := "Additional properties are not allowed (" + strings.Join(extra, ", ") + " " + verb + " unexpected)"
	if o.name == "" {
		return fault.BadRequest("%s", msg)
	}
	return o.InvalidSelf("%s", msg)
}

// Require refuses an object without the key.
func (o *Object) Require(keys ...string) error {
	for _, k := range keys {
		if o.Given(k) {
			continue
		}
		if o.name == "" {
			return fault.BadRequest("%s is a required property", quote(k))
		}
		return o.InvalidSelf("%s is a required property", quote(k))
	}
	return nil
}

// Object is the object under a key that must be there.
func (o *Object) Object(key string) (*Object, error) {
	if err := o.Require(key); err != nil {
		return nil, err
	}
	return parse(key, o.vals[key])
}

// Optional is the object under a key, nil if it is absent or null.
func (o *Object) Optional(key string) (*Object, error) {
	if !o.Has(key) {
		return nil, nil //nolint:nilnil // absent and null are not errors
	}
	return parse(key, o.vals[key])
}
