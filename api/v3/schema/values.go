package schema

import (
	"bytes"
	"encoding/json"
	"math"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
)

// MaxInt is the largest number that fits a column of the database.
const MaxInt = math.MaxInt32

// String of at least low and at most high characters; nil if absent or null.
func (o *Object) String(key string, low, high int) (*string, error) {
	if !o.Has(key) {
		return nil, nil //nolint:nilnil // absent and null are not errors
	}
	raw := o.vals[key]
	var s string
	if !isString(raw) || json.Unmarshal(raw, &s) != nil {
		return nil, o.Invalid(key, "%s is not of type 'string', 'null'", Repr(raw))
	}
	switch n := utf8.RuneCountInString(s); {
	case n < low:
		return nil, o.Invalid(key, "%s is too short", quote(s))
	case n > high:
		return nil, o.Invalid(key, "%s is too long", quote(s))
	case strings.ContainsRune(s, 0): // the database takes no NUL
		return nil, o.Invalid(key, "%s does not match '^[^\\\\x00]*$'", quote(s))
	}
	return &s, nil
}

// Text is String without null: the key must be there.
func (o *Object) Text(key string, low, high int) (string, error) {
	if err := o.Require(key); err != nil {
		return "", err
	}
	if !isString(o.vals[key]) {
		return "", o.Invalid(key, "%s is not of type 'string'", Repr(o.vals[key]))
	}
	s, err := o.String(key, low, high)
	if err != nil {
		return "", err
	}
	return *s, nil
}

// UUID under a key, as text; nil if absent or null.
func (o *Object) UUID(key string) (*uuid.UUID, error) {
	s, err := o.String(key, 0, 255)
	if err != nil || s == nil {
		return nil, err
	}
	id, err := uuid.Parse(*s)
	if err != nil {
		return nil, o.Invalid(key, "%s is not a 'uuid'", quote(*s))
	}
	return &id, nil
}

// Int between low and high, as a number or a string of digits; nil if absent or null.
func (o *Object) Int(key string, low, high int64) (*int64, error) {
	if !o.Has(key) {
		return nil, nil //nolint:nilnil // absent and null are not errors
	}
	raw := bytes.TrimSpace(o.vals[key])
	text := string(raw)
	if isString(raw) {
		var s string
		if json.Unmarshal(raw, &s) != nil || s == "" || strings.Trim(s, "0123456789") != "" {
			return nil, o.Invalid(key, "%s does not match '^[0-9]+$'", Repr(raw))
		}
		text = s
	}
	n, ok := new(big.Int).SetString(text, 10)
	if !ok { // 2.0 is no integer to Cinder's jsonschema
		return nil, o.Invalid(key, "%s is not of type 'integer', 'string'", Repr(raw))
	}
	switch {
	case n.Cmp(big.NewInt(low)) < 0:
		return nil, o.Invalid(key, "%s is less than the minimum of %d", n, low)
	case n.Cmp(big.NewInt(high)) > 0:
		return nil, o.Invalid(key, "%s is greater than the maximum of %d", n, high)
	}
	v := n.Int64()
	return &v, nil
}

// Truth reads a boolean written as text, as oslo.utils does with strict=True.
func Truth(s string) (value, ok bool) {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "1", "t", "true", "on", "y", "yes":
		return true, true
	case "0", "f", "false", "off", "n", "no":
		return false, true
	}
	return false, false
}

// Bool under a key, as a boolean or as text; nil if absent or null.
func (o *Object) Bool(key string) (*bool, error) {
	if !o.Has(key) {
		return nil, nil //nolint:nilnil // absent and null are not errors
	}
	raw := o.vals[key]
	var b bool
	if json.Unmarshal(raw, &b) == nil {
		return &b, nil
	}
	if b, ok := Truth(Str(raw)); ok {
		return &b, nil
	}
	return nil, o.notFlag(key)
}

// Enum is a string out of values; nil if absent or null.
func (o *Object) Enum(key string, values ...string) (*string, error) {
	s, err := o.String(key, 0, 255)
	if err != nil || s == nil || slices.Contains(values, *s) {
		return s, err
	}
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = quote(v)
	}
	return nil, o.Invalid(key, "%s is not one of [%s]", quote(*s), strings.Join(quoted, ", "))
}

// metadataKey is a key that metadata may have.
var metadataKey = regexp.MustCompile(`^[a-zA-Z0-9-_:. /]{1,255}$`)

// Metadata is Strings with the keys of metadata.
func (o *Object) Metadata(key string) (map[string]string, error) {
	if o.Has(key) && !bytes.HasPrefix(bytes.TrimSpace(o.vals[key]), []byte("{")) {
		return nil, o.Invalid(key, "%s is not of type 'object', 'null'", Repr(o.vals[key]))
	}
	in, err := o.Optional(key)
	if err != nil || in == nil {
		return nil, err
	}
	return in.AsMetadata()
}

// AsMetadata is Metadata for the object itself.
func (o *Object) AsMetadata() (map[string]string, error) {
	for _, k := range o.keys {
		if !metadataKey.MatchString(k) {
			return nil, o.InvalidSelf("%s does not match any of the regexes: '%s'", quote(k), metadataKey)
		}
	}
	return o.AsStrings()
}

// Strings is an object of short strings under a key; nil if absent or null. Keys have 1
// to 255 characters, values at most 255.
func (o *Object) Strings(key string) (map[string]string, error) {
	in, err := o.Optional(key)
	if err != nil || in == nil {
		return nil, err
	}
	return in.AsStrings()
}

// AsStrings is Strings for the object itself.
func (o *Object) AsStrings() (map[string]string, error) {
	out := make(map[string]string, len(o.keys))
	for _, k := range o.keys {
		if n := utf8.RuneCountInString(k); n < 1 || n > 255 || strings.ContainsRune(k, 0) {
			return nil, o.InvalidSelf("%s does not match any of the regexes: '^.{1,255}$'", quote(k))
		}
		if !isString(o.vals[k]) {
			return nil, o.Invalid(k, "%s is not of type 'string'", Repr(o.vals[k]))
		}
		v, err := o.String(k, 0, 255)
		if err != nil {
			return nil, err
		}
		out[k] = *v
	}
	return out, nil
}
