package schema

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/vmthunder/vmthunder/api/fault"
)

// The accessors of this file are for bodies whose schema in Cinder takes no null where a
// key may be left out. They return nil for a key that is not there. Cinder looks at the
// values first, then at what is missing, then at what is too much.

// Plain is a string of at least low and at most high characters.
func (o *Object) Plain(key string, low, high int) (*string, error) {
	if !o.Given(key) {
		return nil, nil //nolint:nilnil // absent is not an error
	}
	if !isString(o.vals[key]) {
		return nil, o.Invalid(key, "%s is not of type 'string'", Repr(o.vals[key]))
	}
	return o.String(key, low, high)
}

// Name is a string of 1 to 255 characters that are not all spaces.
func (o *Object) Name(key string) (*string, error) {
	s, err := o.Plain(key, 1, 255)
	if err == nil && s != nil && strings.TrimSpace(*s) == "" {
		err = badName("The 'name' can not be empty.")
	}
	return s, err
}

// TrimmedName is a string that has 1 to 255 characters without the spaces around it.
func (o *Object) TrimmedName(key string) (*string, error) {
	s, err := o.Plain(key, 0, 1<<20)
	if err != nil || s == nil {
		return s, err
	}
	t := strings.TrimSpace(*s)
	switch {
	case *s == "":
		err = badName("The 'name' can not be None.")
	case t == "":
		err = badName("The 'name' can not be empty.")
	case utf8.RuneCountInString(t) > 255:
		err = badName("The 'name' can not be greater than 255 characters.")
	}
	return &t, err
}

func badName(why string) error {
	return fault.BadRequest("An invalid 'name' value was provided. %s", why)
}

// Description is a string of up to 255 printable characters, or null.
func (o *Object) Description(key string) (*string, error) {
	s, err := o.String(key, 0, 255)
	if err != nil || s == nil {
		return s, err
	}
	unprintable := func(r rune) bool { return unicode.In(r, unicode.C, unicode.Zl, unicode.Zp) }
	if strings.ContainsFunc(*s, unprintable) {
		return nil, o.Invalid(key, "%s has characters that can't be printed", quote(*s))
	}
	return s, nil
}

// Flag is a boolean, or one of the texts that Cinder takes for one.
func (o *Object) Flag(key string) (*bool, error) {
	if !o.Given(key) {
		return nil, nil //nolint:nilnil // absent is not an error
	}
	raw := bytes.TrimSpace(o.vals[key])
	if !isString(raw) && !slices.Contains([]string{"true", "false"}, string(raw)) {
		return nil, o.Invalid(key, "%s is not of type 'boolean', 'string'", Repr(raw))
	}
	b, err := o.Bool(key)
	if err == nil && isString(raw) && !slices.Contains(flagWords(), Str(raw)) {
		return nil, o.notFlag(key)
	}
	return b, err
}

// flagWords are the texts that Cinder's schema takes for a boolean.
func flagWords() []string {
	return []string{
		"True", "TRUE", "true", "1", "ON", "On", "on", "YES", "Yes", "yes", "y", "t",
		"False", "FALSE", "false", "0", "OFF", "Off", "off", "NO", "No", "no", "n", "f",
	}
}

func (o *Object) notFlag(key string) error {
	words := flagWords()
	half := len(words) / 2
	return o.Invalid(key, "%s is not one of [True, '%s', False, '%s']", Repr(o.vals[key]),
		strings.Join(words[:half], "', '"), strings.Join(words[half:], "', '"))
}

// ID is a string in the form of a UUID, with or without dashes, as it was written.
func (o *Object) ID(key string) (*string, error) {
	s, err := o.Plain(key, 0, 255)
	if err != nil || s == nil {
		return s, err
	}
	if _, err := o.UUID(key); err != nil {
		return nil, err
	}
	return s, nil
}

// Forms of the keys of specs: extra specs in a type of their own may not have spaces.
var (
	SpecKeys        = regexp.MustCompile(`^[a-zA-Z0-9-_:. /]{1,255}$`) //nolint:gochecknoglobals // constant
	SpecKeysNoSpace = regexp.MustCompile(`^[a-zA-Z0-9-_:.]{1,255}$`)   //nolint:gochecknoglobals // constant
)

// Specs is the object itself as a map of strings of at most 255 characters. A null, which
// Cinder takes, becomes an empty string.
func (o *Object) Specs(keys *regexp.Regexp) (map[string]string, error) {
	out := make(map[string]string, len(o.keys))
	var bad []string
	for _, k := range o.keys {
		if !keys.MatchString(k) {
			bad = append(bad, quote(k))
			continue
		}
		s, err := o.String(k, 0, 255)
		if err != nil {
			return nil, err
		}
		if out[k] = ""; s != nil {
			out[k] = *s
		}
	}
	if len(bad) == 0 {
		return out, nil
	}
	slices.Sort(bad)
	verb := map[bool]string{true: "does", false: "do"}[len(bad) == 1]
	msg := strings.Join(bad, ", ") + " " + verb + " not match any of the regexes: '" + keys.String() + "'"
	if o.name == "" {
		return nil, fault.BadRequest("%s", msg)
	}
	return nil, o.InvalidSelf("%s", msg)
}

// Texts is a list of different strings of 1 to 255 characters.
func (o *Object) Texts(key string) ([]string, error) {
	if err := o.Require(key); err != nil {
		return nil, err
	}
	var items []json.RawMessage
	if json.Unmarshal(o.vals[key], &items) != nil || items == nil {
		return nil, o.Invalid(key, "%s is not of type 'array'", Repr(o.vals[key]))
	}
	out := make([]string, 0, len(items))
	for i, raw := range items {
		item := &Object{vals: map[string]json.RawMessage{}}
		field := strconv.Itoa(i)
		item.vals[field] = raw
		s, err := item.Plain(field, 1, 255)
		if err != nil {
			return nil, err
		}
		out = append(out, *s)
	}
	if len(slices.Compact(slices.Sorted(slices.Values(out)))) < len(out) {
		return nil, o.Invalid(key, "%s has non-unique elements", Repr(o.vals[key]))
	}
	return out, nil
}

// Key is the object's key in the one around it, "" for a body.
func (o *Object) Key() string { return o.name }
