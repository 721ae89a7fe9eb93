package model

import (
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
)

// StringMap is a jsonb column of strings; nil is written as {}.
type StringMap map[string]string

// Value implements driver.Valuer.
func (m StringMap) Value() (driver.Value, error) {
	if m == nil {
		return "{}", nil
	}
	b, err := json.Marshal(m)
	return string(b), err
}

// Scan implements sql.Scanner.
func (m *StringMap) Scan(src any) error {
	b, err := bytesOf(src)
	if err != nil || b == nil {
		*m = StringMap{}
		return err
	}
	if plain, ok := plainMap(string(b)); ok {
		*m = plain
		return nil
	}
	return json.Unmarshal(b, m)
}

// plainMap reads a JSON object of strings without escapes and control characters, which
// is what nearly all are and lists are full of; false leaves the rest to package json.
func plainMap(s string) (StringMap, bool) {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == '\\' {
			return nil, false
		}
	}
	rest, ok := strings.CutPrefix(space(s), "{")
	if !ok || !utf8.ValidString(s) {
		return nil, false
	}
	m := make(StringMap, strings.Count(s, `"`)/4)
	for {
		if end, closed := strings.CutPrefix(space(rest), "}"); closed {
			return m, space(end) == ""
		}
		if len(m) > 0 {
			if rest, ok = strings.CutPrefix(space(rest), ","); !ok {
				return nil, false
			}
		}
		var k, v string
		if k, rest, ok = quoted(space(rest)); !ok {
			return nil, false
		}
		if rest, ok = strings.CutPrefix(space(rest), ":"); !ok {
			return nil, false
		}
		if v, rest, ok = quoted(space(rest)); !ok {
			return nil, false
		}
		m[k] = v
	}
}

// quoted cuts a string without escapes off, and what is behind it.
func quoted(s string) (text, rest string, ok bool) {
	if s, ok = strings.CutPrefix(s, `"`); !ok {
		return "", "", false
	}
	return strings.Cut(s, `"`)
}

func space(s string) string { return strings.TrimLeft(s, " ") }

// JSON is a jsonb column of any shape; nil is NULL.
type JSON []byte

// Value implements driver.Valuer.
func (j JSON) Value() (driver.Value, error) {
	if len(j) == 0 {
		return nil, nil
	}
	return string(j), nil
}

// Scan implements sql.Scanner.
func (j *JSON) Scan(src any) error {
	b, err := bytesOf(src)
	*j = append(JSON(nil), b...)
	return err
}

func bytesOf(src any) ([]byte, error) {
	switch v := src.(type) {
	case nil:
		return nil, nil
	case []byte:
		return v, nil
	case string:
		return []byte(v), nil
	}
	return nil, fmt.Errorf("scan %T into a JSON column", src)
}

// IDs is an array of ids, read as json.
type IDs []uuid.UUID

// Scan implements sql.Scanner.
func (ids *IDs) Scan(src any) error {
	b, err := bytesOf(src)
	if err != nil || b == nil {
		*ids = IDs{}
		return err
	}
	return json.Unmarshal(b, ids)
}
