package keystone

import (
	"errors"
	"fmt"
	"net/url"

	"github.com/gophercloud/gophercloud/v2"
)

// brief says what went wrong without quoting headers, which hold tokens.
func brief(err error) string {
	if code, ok := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err); ok {
		return fmt.Sprintf("status %d", code.Actual)
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err.Error()
	}
	return "no usable answer"
}
