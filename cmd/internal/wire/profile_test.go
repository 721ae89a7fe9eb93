package wire

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

func TestProfiles(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := serveProfiles(t.Context(), address); err == nil || !strings.Contains(err.Error(), "pprof_listen") {
		t.Errorf("error %v of an address that is taken, want one that names pprof_listen", err)
	}
	_ = l.Close()

	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- serveProfiles(ctx, address) }()
	status := func(path string) (int, string) {
		t.Helper()
		for {
			resp, err := http.Get("http://" + address + path)
			if err != nil {
				select {
				case err := <-done:
					t.Fatal(err)
				default:
					continue // not yet
				}
			}
			b, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			return resp.StatusCode, string(b)
		}
	}
	if code, body := status("/debug/pprof/goroutine?debug=1"); code != http.StatusOK || !strings.Contains(body, "serveProfiles") {
		t.Errorf("goroutines: %d %.100s", code, body)
	}
	if code, body := status("/debug/pprof/cmdline"); code != http.StatusNotFound {
		t.Errorf("the command line is shown: %d %.100s", code, body)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := serveProfiles(t.Context(), ""); err != nil {
		t.Error(err)
	}
}
