package image

import (
	"crypto/md5" //nolint:gosec // as Glance
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/driver"
)

const testPassword = "sesame"

// server is a Keystone and a Glance.
type server struct {
	*httptest.Server
	mu     sync.Mutex
	images map[string]*served
	token  int           // the valid one
	logins int           // made so far
	gate   chan struct{} // downloads wait for it
}

// served is an image and how it misbehaves.
type served struct {
	content    []byte
	format     string
	status     string
	hash, sum  string
	bare       bool   // no hashes
	cut        int    // a response breaks off after so many bytes; 0: never
	short      bool   // and then ends as if that were all
	noRange    int    // status a Range is answered with; 200: ignored
	stall      bool   // the first response stops for ever
	requests   int    // for its bytes
	ranges     string // of all requests
	unroutable bool   // 503
}

func newServer(t *testing.T) *server {
	t.Helper()
	s := &server{images: map[string]*served{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v3/auth/tokens", s.login)
	mux.HandleFunc("GET /image/{$}", s.versions)
	mux.HandleFunc("GET /image/v2/images/{id}", s.show)
	mux.HandleFunc("GET /image/v2/images/{id}/file", s.file)
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

func (s *server) login(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.logins++
	for _, want := range []string{`"password":"` + testPassword + `"`, `"name":"glance-reader"`, `"name":"service"`, `"Users"`, `"Default"`} {
		if !strings.Contains(string(body), want) {
			http.Error(w, "who?", http.StatusUnauthorized)
			return
		}
	}
	w.Header().Set("X-Subject-Token", fmt.Sprint("token-", s.token))
	w.WriteHeader(http.StatusCreated)
	endpoint := func(face, region, url string) string {
		return fmt.Sprintf(`{"id":"e","interface":%q,"region":%q,"region_id":%q,"url":%q}`, face, region, region, url)
	}
	fmt.Fprintf(w, `{"token":{"methods":["password"],"expires_at":"2099-01-01T00:00:00.000000Z","catalog":[{"id":"c","type":"image","name":"glance","endpoints":[%s,%s,%s]}]}}`,
		endpoint("internal", "RegionOne", s.URL+"/image"), endpoint("public", "RegionOne", "http://127.0.0.1:1"),
		endpoint("internal", "RegionTwo", "http://127.0.0.1:1"))
}

// versions is what Glance has at its root.
func (s *server) versions(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusMultipleChoices)
	fmt.Fprintf(w, `{"versions":[{"id":"v2.16","status":"CURRENT","links":[{"rel":"self","href":%[1]q}]},{"id":"v2.0","status":"SUPPORTED","links":[{"rel":"self","href":%[1]q}]}]}`, s.URL+"/image/v2/")
}

// expire makes all tokens given so far invalid.
func (s *server) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token++
}

func (s *server) image(w http.ResponseWriter, r *http.Request) *served {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Header.Get("X-Auth-Token") != fmt.Sprint("token-", s.token) {
		http.Error(w, "token?", http.StatusUnauthorized)
		return nil
	}
	i := s.images[r.PathValue("id")]
	if i == nil {
		http.NotFound(w, r)
	}
	return i
}

func (s *server) show(w http.ResponseWriter, r *http.Request) {
	i := s.image(w, r)
	if i == nil {
		return
	}
	m := map[string]any{
		"id": r.PathValue("id"), "status": i.status, "disk_format": i.format, "size": len(i.content),
		"checksum": nil, "os_hash_algo": nil, "os_hash_value": nil,
	}
	if !i.bare {
		m["checksum"], m["os_hash_algo"], m["os_hash_value"] = i.sum, "sha512", i.hash
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(m)
}

func (s *server) file(w http.ResponseWriter, r *http.Request) {
	i := s.image(w, r)
	if i == nil {
		return
	}
	s.mu.Lock()
	i.requests++
	first := i.requests == 1
	i.ranges += r.Header.Get("Range") + ";"
	gate := s.gate
	s.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-r.Context().Done():
			return
		}
	}
	if i.unroutable {
		http.Error(w, "busy", http.StatusServiceUnavailable)
		return
	}
	if r.Header.Get("Accept-Encoding") != "identity" {
		http.Error(w, "would be compressed", http.StatusNotAcceptable)
		return
	}
	content, start := i.content, 0
	status := http.StatusOK
	if from, ok := strings.CutPrefix(r.Header.Get("Range"), "bytes="); ok && i.noRange != http.StatusOK {
		n, err := strconv.Atoi(strings.TrimSuffix(from, "-"))
		switch {
		case i.noRange != 0:
			http.Error(w, "no random access", i.noRange)
			return
		case err != nil || n >= len(content):
			http.Error(w, "range", http.StatusRequestedRangeNotSatisfiable)
			return
		}
		start, content, status = n, content[n:], http.StatusPartialContent
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", n, len(i.content)-1, len(i.content)))
	}
	_ = start
	stop := i.cut > 0 && i.cut < len(content)
	if stop && i.short {
		content = content[:i.cut]
	}
	if !i.short {
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
	}
	w.WriteHeader(status)
	if stop && !i.short {
		_, _ = w.Write(content[:i.cut])
		_ = http.NewResponseController(w).Flush()
		if i.stall && first {
			<-r.Context().Done()
		}
		panic(http.ErrAbortHandler) // cuts the connection
	}
	_, _ = w.Write(content)
}

// add puts an image into Glance.
func (s *server) add(format string, content []byte) (*served, driver.ImageSource) {
	hash, sum := sha512.Sum512(content), md5.Sum(content) //nolint:gosec // as Glance
	i := &served{
		content: content, format: format, status: "active",
		hash: hex.EncodeToString(hash[:]), sum: hex.EncodeToString(sum[:]),
	}
	id := uuid.NewString()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.images[id] = i
	return i, driver.ImageSource{
		ImageID: id, DiskFormat: format, SizeBytes: int64(len(content)),
		HashAlgo: "sha512", HashValue: i.hash, Checksum: i.sum,
	}
}

func (s *server) requested(i *served) (int, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return i.requests, i.ranges
}

func (s *server) config() GlanceConfig {
	return GlanceConfig{
		AuthURL: s.URL + "/v3", Username: "glance-reader", Password: testPassword, ProjectName: "service",
		UserDomainName: "Users", RegionName: "RegionOne", Interface: "internal", HTTP: s.Client(),
	}
}
