package keystone_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/vmthunder/vmthunder/api/keystone"
)

func TestProject(t *testing.T) {
	status := http.StatusOK
	var asked []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.EscapedPath()+" as "+r.Header.Get("X-Auth-Token"))
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`{"project":{"id":"p1","name":"demo"}}`))
	}))
	defer s.Close()
	alice := keystone.Identity{Token: "alice-token"}
	for _, c := range []struct {
		status int
		exists bool
		err    error
	}{
		{http.StatusOK, true, nil},
		{http.StatusNotFound, false, nil},
		{http.StatusForbidden, false, nil}, // not for the caller to know
		{http.StatusUnauthorized, false, keystone.ErrUnreachable},
		{http.StatusInternalServerError, false, keystone.ErrUnreachable},
	} {
		status = c.status
		for _, base := range []string{s.URL, s.URL + "/v3", s.URL + "/identity"} {
			exists, err := keystone.New(keystone.Config{AuthURL: base, Username: "vmthunder"}).Project(context.Background(), alice, "p1/../users")
			if exists != c.exists || !errors.Is(err, c.err) {
				t.Errorf("status %d: %v, %v", c.status, exists, err)
			}
			if err != nil && strings.Contains(err.Error(), "alice-token") {
				t.Errorf("the error shows the token: %v", err)
			}
		}
	}
	for _, a := range asked {
		if a != "GET /v3/projects/p1%2F..%2Fusers as alice-token" && a != "GET /identity/v3/projects/p1%2F..%2Fusers as alice-token" {
			t.Errorf("asked %s", a)
		}
	}
	s.Close()
	if _, err := keystone.New(keystone.Config{AuthURL: s.URL}).Project(context.Background(), alice, "p1"); !errors.Is(err, keystone.ErrUnreachable) {
		t.Errorf("nobody there: %v", err)
	}
}
