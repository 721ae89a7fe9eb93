package schema

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Repr writes a JSON value as Python's repr does, which is how Cinder quotes what it
// refuses: None, True, 'text', {'a': 1}. Text that is not JSON is returned as it is.
func Repr(raw []byte) string {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var b strings.Builder
	if !reprValue(&b, d) {
		return string(raw)
	}
	return b.String()
}

// Str is Repr, but a string stands without quotes (Python's str).
func Str(raw []byte) string {
	var s string
	if isString(raw) && json.Unmarshal(raw, &s) == nil {
		return s
	}
	return Repr(raw)
}

func reprValue(b *strings.Builder, d *json.Decoder) bool {
	t, err := d.Token()
	if err != nil {
		return false
	}
	switch v := t.(type) {
	case nil:
		b.WriteString("None")
	case bool:
		b.WriteString(map[bool]string{true: "True", false: "False"}[v])
	case json.Number:
		b.WriteString(v.String())
	case string:
		b.WriteString(quote(v))
	case json.Delim:
		return reprNested(b, d, v)
	}
	return true
}

func reprNested(b *strings.Builder, d *json.Decoder, open json.Delim) bool {
	b.WriteRune(rune(open))
	for first := true; d.More(); first = false {
		if !first {
			b.WriteString(", ")
		}
		if open == '{' {
			if !reprValue(b, d) {
				return false
			}
			b.WriteString(": ")
		}
		if !reprValue(b, d) {
			return false
		}
	}
	end, err := d.Token()
	if err != nil {
		return false
	}
	if c, ok := end.(json.Delim); ok {
		b.WriteRune(rune(c))
	}
	return true
}

// quote is Python's repr of a string: single quotes, double ones if it holds single ones only.
func quote(s string) string {
	q := '\''
	if strings.ContainsRune(s, '\'') && !strings.ContainsRune(s, '"') {
		q = '"'
	}
	var b strings.Builder
	b.WriteRune(q)
	for _, r := range s {
		switch {
		case r == q || r == '\\':
			b.WriteRune('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ' || r == 0x7f:
			b.WriteString(`\x` + strconv.FormatInt(0x100|int64(r), 16)[1:])
		case r == utf8.RuneError || r > 0x10ffff:
			b.WriteRune(utf8.RuneError)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteRune(q)
	return b.String()
}

func isString(raw []byte) bool {
	t := bytes.TrimSpace(raw)
	return len(t) > 0 && t[0] == '"'
}
