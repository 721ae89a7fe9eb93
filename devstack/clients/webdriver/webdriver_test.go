package webdriver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// driver answers like a chromedriver whose page has its button only at the third look.
func driver(t *testing.T, seen *[]string) *Browser {
	t.Helper()
	looks := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		*seen = append(*seen, r.Method+" "+r.URL.Path+" "+string(body))
		switch {
		case r.URL.Path == "/session/s1/element" && strings.Contains(string(body), "#button"):
			if looks++; looks < 3 {
				w.WriteHeader(http.StatusNotFound)
				fmt.Fprint(w, `{"value":{"error":"no such element","message":"no such element: #button\nstack","stacktrace":""}}`)
				return
			}
			fmt.Fprintf(w, `{"value":{%q:"e7"}}`, elementKey)
		case r.URL.Path == "/session/s1/execute/sync":
			fmt.Fprint(w, `{"value":["a","b"]}`)
		case r.URL.Path == "/session/s1/screenshot":
			fmt.Fprint(w, `{"value":"UE5H"}`)
		case r.URL.Path == "/session/s1/element/e7/click":
			fmt.Fprint(w, `{"value":null}`)
		default:
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"value":{"error":"no such element","message":"nothing there"}}`)
		}
	}))
	t.Cleanup(srv.Close)
	return &Browser{base: srv.URL + "/session/s1", client: srv.Client(), gone: make(chan struct{}), Timeout: 20 * time.Second}
}

func TestClickWaits(t *testing.T) {
	var seen []string
	b := driver(t, &seen)
	if err := b.Click(context.Background(), "#button"); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 4 || seen[0] != `POST /session/s1/element {"using":"css selector","value":"#button"}` || seen[3] != "POST /session/s1/element/e7/click {}" {
		t.Errorf("calls %q", seen)
	}
	var out []string
	if err := b.Script(context.Background(), "return x", &out); err != nil || len(out) != 2 {
		t.Errorf("script: %v, %v", out, err)
	}
	if png, err := b.Screenshot(context.Background()); err != nil || string(png) != "PNG" {
		t.Errorf("screenshot: %q, %v", png, err)
	}
}

func TestWhatNeverComes(t *testing.T) {
	var seen []string
	b := driver(t, &seen)
	b.Timeout = 300 * time.Millisecond
	err := b.Click(context.Background(), "#nothing")
	if e := new(Error); !errors.As(err, &e) || e.Kind != "no such element" || !strings.Contains(err.Error(), "#nothing") {
		t.Errorf("error %v", err)
	}
	b.Timeout = time.Minute
	close(b.gone)
	if err := b.Wait(context.Background(), "x", func() (bool, error) { return false, nil }); err == nil || !strings.Contains(err.Error(), "driver has ended") {
		t.Errorf("error %v", err)
	}
}
