package rpc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"unicode/utf8"
)

// appendPython appends valid JSON in the form Python's json.dumps gives it: ", "
// and ": " as separators, everything outside ASCII escaped. Nobody needs it to
// be so, but equal bytes make captures comparable.
func appendPython(dst, src []byte) []byte {
	quoted := false
	for i := 0; i < len(src); {
		c := src[i]
		switch {
		case quoted && c == '\\' && i+1 < len(src):
			dst = append(dst, c, src[i+1])
			i += 2
			continue
		case c == '"':
			quoted = !quoted
			dst = append(dst, c)
		case quoted && c >= utf8.RuneSelf:
			r, n := utf8.DecodeRune(src[i:])
			dst = appendEscaped(dst, r)
			i += n
			continue
		case quoted:
			dst = append(dst, c)
		case c == ',' || c == ':':
			dst = append(dst, c, ' ')
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
		default:
			dst = append(dst, c)
		}
		i++
	}
	return dst
}

// appendEscaped writes \uXXXX, as a surrogate pair beyond the basic plane.
func appendEscaped(dst []byte, r rune) []byte {
	if r > 0xffff {
		r -= 0x10000
		return fmt.Appendf(dst, `\u%04x\u%04x`, 0xd800+(r>>10), 0xdc00+(r&0x3ff))
	}
	return fmt.Appendf(dst, `\u%04x`, r)
}

// appendString appends s as Python's json.dumps writes a string.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			dst = appendEscaped(dst, r)
			i += n
			continue
		}
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		default:
			if c < 0x20 {
				dst = appendEscaped(dst, rune(c))
			} else {
				dst = append(dst, c)
			}
		}
		i++
	}
	return append(dst, '"')
}

// marshal is [json.Marshal] without its HTML escapes.
func marshal(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// member is one key of a JSON object, in the order of the text.
type member struct {
	key   string
	value json.RawMessage
}

// object is a JSON object that keeps its order.
type object []member

func (o object) get(key string) json.RawMessage {
	for _, v := range slices.Backward(o) { // the last of a doubled key counts, as in Python
		if v.key == key {
			return v.value
		}
	}
	return nil
}

func (o object) has(key string) bool {
	for _, m := range o {
		if m.key == key {
			return true
		}
	}
	return false
}

// put replaces key in place or appends it, in a copy.
func (o object) put(key string, value json.RawMessage) object {
	out := append(make(object, 0, len(o)+1), o...)
	for i := range out {
		if out[i].key == key {
			out[i].value = value
			return out
		}
	}
	return append(out, member{key, value})
}

// text of a member that is a string; "" for null, missing or anything else.
func (o object) text(key string) string {
	var s string
	if raw := o.get(key); raw == nil || json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

// add appends a member; raw JSON goes in as it is, nil as null.
func (o *object) add(key string, v any) error {
	raw, ok := v.(json.RawMessage)
	if !ok {
		var err error
		if raw, err = marshal(v); err != nil {
			return fmt.Errorf("encode %s: %w", key, err)
		}
	} else if raw == nil {
		raw = json.RawMessage("null")
	} else if !json.Valid(raw) {
		return fmt.Errorf("encode %s: %w: not JSON", key, ErrBadMessage)
	}
	*o = append(*o, member{key, raw})
	return nil
}

// addText appends a string member, null when it is empty.
func (o *object) addText(key, s string) {
	raw := json.RawMessage("null")
	if s != "" {
		raw = appendString(nil, s)
	}
	*o = append(*o, member{key, raw})
}

func (o object) encode() []byte {
	b := []byte{'{'}
	for i, m := range o {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = appendString(b, m.key)
		b = append(b, ": "...)
		b = appendPython(b, m.value)
	}
	return append(b, '}')
}

// parseObject reads one JSON object and nothing after it.
func parseObject(data []byte) (object, error) {
	if !json.Valid(data) { // also bounds the depth before the decoder below recurses
		return nil, fmt.Errorf("%w: not JSON", ErrBadMessage)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("%w: not a JSON object", ErrBadMessage)
	}
	var o object
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBadMessage, err)
		}
		key, _ := t.(string)
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrBadMessage, err)
		}
		o = append(o, member{key, raw})
	}
	return o, nil
}

func isNull(raw json.RawMessage) bool { return raw == nil || string(raw) == "null" }
