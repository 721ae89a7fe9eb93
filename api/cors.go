package api

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// CORS is which web pages browsers let ask this service: oslo.middleware's cors. The
// zero value lets none.
type CORS struct {
	Origins     []string // https://horizon.example, without path; * is all
	Methods     []string // that pages may use
	Headers     []string // that pages may send
	Expose      []string // headers of answers that pages may read
	Credentials bool     // cookies may be sent
	MaxAge      int      // seconds that the answer to OPTIONS is remembered; 0: it does not say
}

// simpleHeaders may always be sent.
func simpleHeaders() []string {
	return []string{"Accept", "Accept-Language", "Content-Type", "Cache-Control", "Content-Language", "Expires", "Last-Modified", "Pragma"}
}

// origin is what Access-Control-Allow-Origin says to a page, "" if it may not ask.
func (c CORS) origin(r *http.Request) string {
	switch o := r.Header.Get("Origin"); {
	case o == "":
		return ""
	case slices.Contains(c.Origins, o):
		return o
	case slices.Contains(c.Origins, "*"):
		return "*"
	}
	return ""
}

// wrap answers OPTIONS, which Cinder's resources do not know, and marks other answers.
func (c CORS) wrap(next http.Handler) http.Handler {
	if len(c.Origins) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin := c.origin(r)
		if r.Method == http.MethodOptions {
			if origin != "" {
				c.preflight(w.Header(), r, origin)
			}
			w.Header().Set("Content-Length", "0")
			w.WriteHeader(http.StatusOK)
			return
		}
		if origin != "" {
			w.Header().Add("Vary", "Origin")
			c.allow(w.Header(), origin)
			if len(c.Expose) > 0 {
				w.Header().Set("Access-Control-Expose-Headers", strings.Join(c.Expose, ","))
			}
		}
		next.ServeHTTP(w, r)
	})
}

func (c CORS) allow(h http.Header, origin string) {
	h.Set("Access-Control-Allow-Origin", origin)
	if c.Credentials {
		h.Set("Access-Control-Allow-Credentials", "true")
	}
}

// preflight says yes to a request that a page wants to send, or nothing.
func (c CORS) preflight(h http.Header, r *http.Request, origin string) {
	method := r.Header.Get("Access-Control-Request-Method")
	if !slices.Contains(c.Methods, method) {
		return
	}
	var asked []string
	for name := range strings.SplitSeq(r.Header.Get("Access-Control-Request-Headers"), ",") {
		if name = strings.TrimSpace(name); name != "" {
			asked = append(asked, name)
		}
	}
	may := append(simpleHeaders(), c.Headers...)
	for _, name := range asked {
		if !slices.ContainsFunc(may, func(m string) bool { return strings.EqualFold(m, name) }) {
			return
		}
	}
	h.Set("Vary", "Origin")
	c.allow(h, origin)
	if c.MaxAge > 0 {
		h.Set("Access-Control-Max-Age", strconv.Itoa(c.MaxAge))
	}
	h.Set("Access-Control-Allow-Methods", method)
	if len(asked) > 0 {
		h.Set("Access-Control-Allow-Headers", strings.Join(asked, ","))
	}
}
