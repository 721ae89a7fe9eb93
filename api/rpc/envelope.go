package rpc

import (
	"encoding/json"
	"fmt"
	"strings"
)

const (
	envelopeVersion = "2.0"
	keyVersion      = "oslo.version"
	keyMessage      = "oslo.message"
	contextPrefix   = "_context_"
)

// Wrap puts an encoded message into oslo's envelope, a JSON object that holds
// the message's JSON as a string.
func Wrap(message []byte) []byte {
	b := make([]byte, 0, len(message)+len(message)/8+64)
	b = append(b, `{"oslo.version": "2.0", "oslo.message": `...)
	b = appendString(b, string(message))
	return append(b, '}')
}

// Unwrap returns the message inside an envelope. An object that lacks one of the
// envelope's keys is taken as a bare message, as oslo does. An envelope of a major
// version other than 2 wraps [ErrBadMessage].
func Unwrap(body []byte) ([]byte, error) {
	o, err := parseObject(body)
	if err != nil {
		return nil, err
	}
	if !o.has(keyVersion) || !o.has(keyMessage) {
		return body, nil
	}
	var version, message string
	if err := json.Unmarshal(o.get(keyVersion), &version); err != nil {
		return nil, fmt.Errorf("%w: envelope version: %w", ErrBadMessage, err)
	}
	if major, _, _ := strings.Cut(version, "."); major != "2" {
		return nil, fmt.Errorf("%w: envelope version %q, not %s", ErrBadMessage, version, envelopeVersion)
	}
	if err := json.Unmarshal(o.get(keyMessage), &message); err != nil {
		return nil, fmt.Errorf("%w: envelope message: %w", ErrBadMessage, err)
	}
	return []byte(message), nil
}

// open unwraps a body and parses the message.
func open(body []byte) (object, error) {
	inner, err := Unwrap(body)
	if err != nil {
		return nil, err
	}
	return parseObject(inner)
}
