package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/vmthunder/vmthunder/devstack/lab"
)

// service is a Block Storage API, ours or the real Cinder's, as one account sees it.
// Connections are kept where the server keeps them.
type service struct {
	who     string // as in Row
	url     string // with the project
	project string
	token   string
	http    *http.Client
}

func newService(ctx context.Context, l *lab.Lab, who, url, project string) (*service, error) {
	token, err := l.Token(ctx, "admin", "admin")
	if err != nil {
		return nil, err
	}
	return &service{
		who: who, url: url + "/v3/" + project, project: project, token: token,
		http: &http.Client{Transport: &http.Transport{DialContext: l.DialContext, MaxIdleConnsPerHost: 64}},
	}, nil
}

type object = map[string]any

// do sends a request and reads all of its answer; out may be nil.
func (s *service) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, s.url+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("X-Auth-Token", s.token)
	req.Header.Set("OpenStack-API-Version", "volume 3.70")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode >= http.StatusBadRequest:
		return fmt.Errorf("%s %s: %s: %.300s", method, path, resp.Status, b)
	case out == nil:
		return nil
	}
	return json.Unmarshal(b, out)
}

// get is a request whose answer nobody looks at.
func (s *service) get(ctx context.Context, path string) error {
	return s.do(ctx, http.MethodGet, path, nil, nil)
}

// create makes a volume of 1 GiB; image "" is a blank one.
func (s *service) create(ctx context.Context, name, image string) (string, error) {
	v := object{"name": name, "size": 1}
	if image != "" {
		v["imageRef"] = image
	}
	var out struct{ Volume struct{ ID string } }
	err := s.do(ctx, http.MethodPost, "/volumes", object{"volume": v}, &out)
	return out.Volume.ID, err
}

// batch makes n volumes by one request.
func (s *service) batch(ctx context.Context, n int, image string) ([]string, error) {
	var out struct{ Volumes []struct{ ID string } }
	err := s.do(ctx, http.MethodPost, "/volumes/batch", object{"count": n, "volume": object{"name": "v", "size": 1, "imageRef": image}}, &out)
	ids := make([]string, len(out.Volumes))
	for i, v := range out.Volumes {
		ids[i] = v.ID
	}
	return ids, err
}

// availableLimit is how long volumes are waited for.
const availableLimit = 3 * time.Minute

// available polls the list, as a client would, until all these volumes are available. The
// pause between two looks is a tenth of the time since the first, so that neither the
// figure is coarse nor the looking a load.
func (s *service) available(ctx context.Context, ids []string, limit time.Duration) error {
	first := time.Now()
	for {
		var out struct{ Volumes []struct{ ID, Status string } }
		if err := s.do(ctx, http.MethodGet, "/volumes/detail", nil, &out); err != nil {
			return err
		}
		status := map[string]string{}
		for _, v := range out.Volumes {
			status[v.ID] = v.Status
		}
		if i := slices.IndexFunc(ids, func(id string) bool { return strings.HasPrefix(status[id], "error") }); i >= 0 {
			return fmt.Errorf("%s: volume %s has status %s", s.who, ids[i], status[ids[i]])
		}
		waiting := map[string]int{} // by status
		for _, id := range ids {
			if status[id] != "available" {
				waiting[status[id]]++
			}
		}
		switch {
		case len(waiting) == 0:
			return nil
		case time.Since(first) > limit:
			return fmt.Errorf("%s: of %d volumes these are not available after %s, by status: %v", s.url, len(ids), limit, waiting)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(max(10*time.Millisecond, time.Since(first)/10)):
		}
	}
}

// widen gives the account's project quotas that no case comes near to.
func (s *service) widen(ctx context.Context) error {
	return s.do(ctx, http.MethodPut, "/os-quota-sets/"+s.project, object{"quota_set": object{"volumes": 1_000_000, "gigabytes": 1_000_000}}, nil)
}
