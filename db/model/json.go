package model

import (
	"database/sql/driver"
	"encoding/json"
	"fmt"
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
	return json.Unmarshal(b, m)
}

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
