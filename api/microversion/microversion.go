// Package microversion negotiates versions 3.0 to 3.70 of the Block Storage API
// (cinder/api/openstack/api_version_request.py).
package microversion

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/vmthunder/vmthunder/api/fault"
)

// Header of requests and responses.
const Header = "OpenStack-API-Version"

// Service is the name of the service in the header.
const Service = "volume"

// Max is the newest version served. python-cinderclient 9.1 knows no newer one, and
// what is advertised must be there.
const Max Version = 70

// Version is the minor number of a version 3.N.
type Version int

// String is the version as in headers.
func (v Version) String() string { return "3." + strconv.Itoa(int(v)) }

var form = regexp.MustCompile(`^([1-9]\d{0,5})\.([1-9]\d{0,5}|0)$`)

// Negotiate reads the header of a request. No header is 3.0.
func Negotiate(h http.Header) (Version, error) {
	values := h.Values(Header)
	if len(values) == 0 {
		return 0, nil
	}
	wanted := ""
	for entry := range strings.SplitSeq(strings.Join(values, ","), ",") {
		if !strings.Contains(entry, Service) {
			continue
		}
		f := strings.Fields(entry)
		if len(f) != 2 {
			return 0, fault.BadRequest("API Version String %s is of invalid format. Must be of format MajorNum.MinorNum.",
				strings.TrimSpace(entry))
		}
		wanted = f[1]
		break
	}
	switch wanted {
	case "":
		return 0, fault.BadRequest("API version None is not supported on this method.")
	case "latest":
		return Max, nil
	}
	m := form.FindStringSubmatch(wanted)
	if m == nil {
		return 0, fault.BadRequest("API Version String %s is of invalid format. Must be of format MajorNum.MinorNum.", wanted)
	}
	minor, err := strconv.Atoi(m[2])
	if err != nil || m[1] != "3" || Version(minor) > Max {
		return 0, fault.New(http.StatusNotAcceptable,
			"Version %s is not supported by the API. Minimum is 3.0 and maximum is %s.", wanted, Max)
	}
	return Version(minor), nil
}
