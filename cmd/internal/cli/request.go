package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/gophercloud/gophercloud/v2"
)

// request sends one request to the volume service, below the project's URL; any status
// but those in ok is an error, in the service's words. in and out may be nil.
func request(ctx context.Context, method string, path []string, in, out any, ok ...int) (status int, err error) {
	client, err := operatorAPI(ctx)
	if err != nil {
		return 0, err
	}
	resp, err := client.Request(ctx, method, client.ServiceURL(path...), &gophercloud.RequestOpts{JSONBody: in, JSONResponse: out, OkCodes: ok})
	if resp != nil {
		status = resp.StatusCode
		if resp.Body != nil {
			defer func() { _ = resp.Body.Close() }()
		}
	}
	var code gophercloud.ErrUnexpectedResponseCode
	if errors.As(err, &code) {
		status = code.Actual
		var body map[string]struct{ Message string }
		if json.Unmarshal(code.Body, &body) == nil {
			for _, f := range body {
				return status, fmt.Errorf("%s (%d)", f.Message, code.Actual)
			}
		}
	}
	return status, err
}
