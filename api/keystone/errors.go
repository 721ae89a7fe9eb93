package keystone

import (
	"errors"
	"fmt"
	"net/url"

	"github.com/gophercloud/gophercloud/v2"
)

// brief says what went wrong without quoting headers, which hold tokens.
func brief(err error) string {
	var code gophercloud.ErrUnexpectedResponseCode
	if errors.As(err, &code) {
		return fmt.Sprintf("status %d", code.Actual)
	}
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err.Error()
	}
	return "no usable answer"
}
