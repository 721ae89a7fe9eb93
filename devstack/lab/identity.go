package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
)

// Accounts of a laboratory, all with Password. admin has role admin on projects admin
// and demo; the others have the roles below.
func accounts() []account {
	service := []string{"service", "admin"}
	return []account{
		{"glance", "service", service},
		{"nova", "service", service},
		{"placement", "service", service},
		{"cinder", "service", service},
		{"vmthunder", "service", service},
		{"demo", "demo", []string{"member"}},
		{"alt_demo", "alt_demo", []string{"member"}},
		{"demo_reader", "demo", []string{"reader"}},
		{"admin", "demo", []string{"admin"}},
	}
}

type account struct {
	user, project string
	roles         []string
}

type identityClient struct {
	http  *http.Client
	url   string
	token string
}

// do sends one request of the Identity API v3 and decodes its answer into out.
func (c *identityClient) do(ctx context.Context, method, path string, in, out any) (http.Header, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if c.token != "" {
		req.Header.Set("X-Auth-Token", c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		return nil, fmt.Errorf("%s %s: %s: %.300s", method, path, resp.Status, b)
	}
	if out != nil {
		if err := json.Unmarshal(b, out); err != nil {
			return nil, fmt.Errorf("%s %s: %w", method, path, err)
		}
	}
	return resp.Header, nil
}

type object = map[string]any

func (c *identityClient) login(ctx context.Context, user, project string) error {
	domain := object{"id": "default"}
	h, err := c.do(ctx, http.MethodPost, "/auth/tokens", object{"auth": object{
		"identity": object{"methods": []string{"password"}, "password": object{"user": object{"name": user, "domain": domain, "password": Password}}},
		"scope":    object{"project": object{"name": project, "domain": domain}},
	}}, nil)
	if err != nil {
		return err
	}
	c.token = h.Get("X-Subject-Token")
	return nil
}

// Token gets a token of an account on a project.
func (l *Lab) Token(ctx context.Context, user, project string) (string, error) {
	c := &identityClient{http: l.HTTPClient(), url: l.KeystoneURL()}
	if err := c.login(ctx, user, project); err != nil {
		return "", fmt.Errorf("token of %s: %w", user, err)
	}
	return c.token, nil
}

// ensure returns the ids, by name, of a collection that has at least the wanted names.
func (c *identityClient) ensure(ctx context.Context, collection, one string, want []string, extra object) (map[string]string, error) {
	var list map[string]json.RawMessage
	if _, err := c.do(ctx, http.MethodGet, "/"+collection, nil, &list); err != nil {
		return nil, err
	}
	var items []struct{ ID, Name string }
	if err := json.Unmarshal(list[collection], &items); err != nil {
		return nil, fmt.Errorf("list %s: %w", collection, err)
	}
	ids := map[string]string{}
	for _, x := range items {
		ids[x.Name] = x.ID
	}
	for _, name := range want {
		if ids[name] != "" {
			continue
		}
		body := object{"name": name}
		maps.Copy(body, extra)
		var made map[string]struct{ ID string }
		if _, err := c.do(ctx, http.MethodPost, "/"+collection, object{one: body}, &made); err != nil {
			return nil, err
		}
		ids[name] = made[one].ID
	}
	return ids, nil
}

type catalogEntry struct{ kind, name, url string }

// setupKeystone makes projects, users, roles and catalog. What is there stays.
func (l *Lab) setupKeystone(ctx context.Context) error {
	c := &identityClient{http: l.HTTPClient(), url: l.KeystoneURL()}
	if err := c.login(ctx, "admin", "admin"); err != nil {
		return fmt.Errorf("set up keystone: %w", err)
	}
	if !l.fromTemplate() {
		if err := c.setupAccounts(ctx); err != nil {
			return fmt.Errorf("set up keystone: %w", err)
		}
	}
	err := c.setupCatalog(ctx, []catalogEntry{
		{"image", "glance", l.GlanceURL()},
		{"volumev3", "cinderv3", l.st.VolumeURL},
		{"block-storage", "cinder", l.st.VolumeURL},
	})
	if err != nil {
		return fmt.Errorf("set up catalog: %w", err)
	}
	return nil
}

func (c *identityClient) setupAccounts(ctx context.Context) error {
	domain := object{"domain_id": "default"}
	var users, projects, roles []string
	for _, a := range accounts() {
		users, projects, roles = append(users, a.user), append(projects, a.project), append(roles, a.roles...)
	}
	roleIDs, err := c.ensure(ctx, "roles", "role", slices.Concat(roles, []string{"member", "reader"}), nil)
	if err != nil {
		return err
	}
	projectIDs, err := c.ensure(ctx, "projects", "project", projects, domain)
	if err != nil {
		return err
	}
	userIDs, err := c.ensure(ctx, "users", "user", users, object{"domain_id": "default", "password": Password})
	if err != nil {
		return err
	}
	for _, a := range accounts() {
		for _, r := range a.roles {
			path := fmt.Sprintf("/projects/%s/users/%s/roles/%s", projectIDs[a.project], userIDs[a.user], roleIDs[r])
			if _, err := c.do(ctx, http.MethodPut, path, nil, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *identityClient) setupCatalog(ctx context.Context, entries []catalogEntry) error {
	var services struct {
		Services []struct{ ID, Type string }
	}
	var endpoints struct {
		Endpoints []struct {
			ID, URL, Interface string
			ServiceID          string `json:"service_id"`
			RegionID           string `json:"region_id"`
		}
	}
	if _, err := c.do(ctx, http.MethodGet, "/services", nil, &services); err != nil {
		return err
	}
	if _, err := c.do(ctx, http.MethodGet, "/endpoints", nil, &endpoints); err != nil {
		return err
	}
	for _, e := range entries {
		id := ""
		for _, s := range services.Services {
			if s.Type == e.kind {
				id = s.ID
			}
		}
		if id == "" {
			var made struct{ Service struct{ ID string } }
			if _, err := c.do(ctx, http.MethodPost, "/services", object{"service": object{"type": e.kind, "name": e.name}}, &made); err != nil {
				return err
			}
			id = made.Service.ID
		}
		for _, iface := range []string{"public", "internal", "admin"} {
			body := object{"endpoint": object{"service_id": id, "interface": iface, "region_id": Region, "url": e.url}}
			method, path := http.MethodPost, "/endpoints"
			for _, x := range endpoints.Endpoints {
				if x.ServiceID == id && x.Interface == iface && x.RegionID == Region {
					if method, path = http.MethodPatch, "/endpoints/"+x.ID; x.URL == e.url {
						method = ""
					}
				}
			}
			if method == "" {
				continue
			}
			if _, err := c.do(ctx, method, path, body, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// VolumeURL is where the catalog's volumev3 and block-storage lead.
func (l *Lab) VolumeURL() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.st.VolumeURL
}

// PointCatalog changes where the catalog's volumev3 and block-storage lead; the URL may
// hold %(project_id)s.
func (l *Lab) PointCatalog(ctx context.Context, url string) error {
	c := &identityClient{http: l.HTTPClient(), url: l.KeystoneURL()}
	if err := c.login(ctx, "admin", "admin"); err != nil {
		return fmt.Errorf("point catalog: %w", err)
	}
	l.mu.Lock()
	l.st.VolumeURL = url
	err := l.save()
	l.mu.Unlock()
	if err != nil {
		return err
	}
	if err := c.setupCatalog(ctx, []catalogEntry{{"volumev3", "cinderv3", url}, {"block-storage", "cinder", url}}); err != nil {
		return fmt.Errorf("point catalog: %w", err)
	}
	return nil
}
