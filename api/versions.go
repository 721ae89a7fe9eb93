package api

import (
	"errors"
	"net/http"
	"strings"

	"github.com/vmthunder/vmthunder/api/fault"
	"github.com/vmthunder/vmthunder/api/microversion"
	"github.com/vmthunder/vmthunder/api/request"
)

// versions is the list of versions: clients parse it, and nothing else, for the microversion.
func versions(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", microversion.Header)
		mv, err := microversion.Negotiate(r.Header)
		if err != nil {
			fault.Write(w, refused(err))
			return
		}
		w.Header().Set(microversion.Header, microversion.Service+" "+mv.String())
		base := request.From(r.Context()).BaseURL
		writeJSON(w, status, map[string]any{"versions": []any{map[string]any{
			"id": "v3.0", "status": "CURRENT", "version": microversion.Max.String(), "min_version": microversion.Version(0).String(),
			"updated": "2022-08-31T00:00:00Z",
			"links": []map[string]string{
				{"rel": "describedby", "type": "text/html", "href": "https://docs.openstack.org/"},
				{"rel": "self", "href": base + "/v3/"},
			},
			"media-types": []map[string]string{
				{"base": "application/json", "type": "application/vnd.openstack.volume+json;version=3"},
			},
		}}})
	}
}

// refused is the answer to a microversion that is not served.
func refused(err error) *fault.Fault {
	var f *fault.Fault
	if errors.As(err, &f) {
		return f
	}
	return fault.Server(err)
}

// redirectV3: /v3 is /v3/.
func redirectV3(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Location", request.From(r.Context()).BaseURL+"/v3/")
	w.Header().Set("Content-Type", "text/html; charset=UTF-8")
	w.WriteHeader(http.StatusFound)
}

func (cfg Config) healthcheck(w http.ResponseWriter, r *http.Request) {
	status, text := http.StatusOK, "OK"
	if cfg.Healthy != nil {
		if err := cfg.Healthy(r); err != nil {
			request.From(r.Context()).Err = err
			status, text = http.StatusServiceUnavailable, "UNAVAILABLE"
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text)) // the client is gone if this fails
}

const notFoundText = "The resource could not be found."

// unknownRoute is the router's own 404, which is no fault of the API: HTML, or for those
// who ask for it JSON of another form (WebOb).
func unknownRoute(w http.ResponseWriter, r *http.Request) {
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		writeJSON(w, http.StatusNotFound, map[string]string{
			"message": notFoundText + "<br /><br />\n\n\n", "code": "404 Not Found", "title": "Not Found",
		})
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=UTF-8")
	w.WriteHeader(http.StatusNotFound)
	_, _ = w.Write([]byte("<html>\n <head>\n  <title>404 Not Found</title>\n </head>\n <body>\n  <h1>404 Not Found</h1>\n  " +
		notFoundText + "<br /><br />\n\n\n\n </body>\n</html>"))
}
