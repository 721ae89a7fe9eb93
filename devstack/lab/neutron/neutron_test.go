package neutron

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestAnswers(t *testing.T) {
	s := httptest.NewServer(Handler())
	defer s.Close()
	for _, c := range []struct {
		method, path string
		status       int
		has          string
	}{
		{"GET", "/", 200, `"id":"v2.0"`},
		{"GET", "/v2.0/", 200, `"resources":[]`},
		{"GET", "/v2.0/ports?device_id=x", 200, `{"ports":[]}`},
		{"GET", "/v2.0/networks.json", 200, `{"networks":[]}`},
		{"GET", "/v2.0/security-groups?name=default", 200, `"security_groups":[{`},
		{"GET", "/v2.0/quotas/p1", 200, `"port":-1`},
		{"GET", "/v2.0/ports/p1", 404, "NeutronError"},
		{"GET", "/v2.0/auto-allocated-topology/p1", 404, "NeutronError"},
		{"POST", "/v2.0/ports", 403, "no networks"},
		{"DELETE", "/v2.0/ports/p1", 403, "no networks"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, s.URL+c.path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != c.status || !strings.Contains(string(b), c.has) {
			t.Errorf("%s %s: %d %s, %v", c.method, c.path, resp.StatusCode, b, err)
		}
	}
}
