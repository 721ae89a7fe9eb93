package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// Client speaks the volume API as one account, with its project id in the URL.
type Client struct {
	c             *Cluster
	replica       int
	user, project string
	http          *http.Client

	service bool // send a service token too

	mu        sync.Mutex
	token     string
	serviceTk string
	projectID string
}

// Admin is a client with role admin on project admin, of the first replica.
func (c *Cluster) Admin() *Client { return c.Client(0, "admin", "admin") }

// Client of a replica as an account of the laboratory.
func (c *Cluster) Client(replica int, user, project string) *Client {
	return &Client{c: c, replica: replica, user: user, project: project, http: c.Lab.HTTPClient()}
}

// Error is an answer of 400 or above.
type Error struct {
	Method, Path string
	Status       int
	Body         string
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s %s: %d: %.500s", e.Method, e.Path, e.Status, e.Body)
}

// login gets a token once.
func (c *Client) login(ctx context.Context) (token, project string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.token != "" {
		return c.token, c.projectID, nil
	}
	if c.service {
		if c.serviceTk, err = c.c.Lab.Token(ctx, "nova", "service"); err != nil {
			return "", "", err
		}
	}
	if c.token, err = c.c.Lab.Token(ctx, c.user, c.project); err != nil {
		return "", "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.c.Lab.KeystoneURL()+"/auth/tokens", nil)
	if err != nil {
		return "", "", err
	}
	req.Header.Set("X-Auth-Token", c.token)
	req.Header.Set("X-Subject-Token", c.token)
	resp, err := c.http.Do(req)
	if err != nil {
		return "", "", err
	}
	defer resp.Body.Close()
	var body struct {
		Token struct {
			Project struct{ ID string } `json:"project"`
		} `json:"token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		return "", "", err
	}
	c.projectID = body.Token.Project.ID
	return c.token, c.projectID, nil
}

// Project is the id of the project that the client's token is for.
func (c *Client) Project(ctx context.Context) (string, error) {
	_, id, err := c.login(ctx)
	return id, err
}

// Do sends one request; path is below /v3/PROJECT. out may be nil.
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	token, project, err := c.login(ctx)
	if err != nil {
		return err
	}
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.c.url(c.replica)+"/v3/"+project+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("X-Auth-Token", token)
	req.Header.Set("OpenStack-API-Version", "volume 3.70")
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.serviceTk != "" {
		req.Header.Set("X-Service-Token", c.serviceTk)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return &Error{Method: method, Path: path, Status: resp.StatusCode, Body: string(b)}
	}
	if out == nil || len(b) == 0 {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("%s %s: %w: %.200s", method, path, err, b)
	}
	return nil
}

type object = map[string]any

// Volume as the API shows it.
type Volume struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	Status   string            `json:"status"`
	Size     int               `json:"size"`
	Bootable string            `json:"bootable"`
	Host     string            `json:"os-vol-host-attr:host"`
	Metadata map[string]string `json:"metadata"`
	// UpdatedAt is when the row changed last, YYYY-MM-DDThh:mm:ss.ssssss in UTC; empty
	// if it never has.
	UpdatedAt string `json:"updated_at"`
}

// Attachment as the API shows it.
type Attachment struct {
	ID             string         `json:"id"`
	VolumeID       string         `json:"volume_id"`
	Status         string         `json:"status"`
	ConnectionInfo map[string]any `json:"connection_info"`
}

// Device is the path of a local connection.
func (a Attachment) Device() string {
	s, _ := a.ConnectionInfo["device_path"].(string)
	return s
}

// Node as the operator's view shows it.
type Node struct {
	Host   string `json:"host"`
	Alive  bool   `json:"alive"`
	Origin bool   `json:"origin"`
	BootID string `json:"boot_id"`
}

// Nodes lists the nodes.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	var out struct{ Nodes []Node }
	return out.Nodes, c.Do(ctx, http.MethodGet, "/vmthunder/nodes", nil, &out)
}

// CreateVolume makes one volume; image may be "".
func (c *Client) CreateVolume(ctx context.Context, name, image string, gib int) (Volume, error) {
	v := object{"name": name, "size": gib}
	if image != "" {
		v["imageRef"] = image
	}
	var out struct{ Volume Volume }
	return out.Volume, c.Do(ctx, http.MethodPost, "/volumes", object{"volume": v}, &out)
}

// Volume shows one.
func (c *Client) Volume(ctx context.Context, id string) (Volume, error) {
	var out struct{ Volume Volume }
	return out.Volume, c.Do(ctx, http.MethodGet, "/volumes/"+id, nil, &out)
}

// Volumes lists all, with details.
func (c *Client) Volumes(ctx context.Context) ([]Volume, error) {
	var out struct{ Volumes []Volume }
	return out.Volumes, c.Do(ctx, http.MethodGet, "/volumes/detail", nil, &out)
}

// WaitVolume waits until a volume has a status; one of error ends the wait at once.
func (c *Client) WaitVolume(ctx context.Context, id, status string, limit time.Duration) (Volume, error) {
	var v Volume
	err := wait(ctx, limit, "volume "+id+" to be "+status, func() (bool, error) {
		var err error
		if v, err = c.Volume(ctx, id); err != nil {
			return false, err
		}
		if v.Status == "error" && status != "error" {
			return false, fmt.Errorf("volume %s is in error: %v", id, v.Metadata)
		}
		return v.Status == status, nil
	})
	if err != nil {
		err = fmt.Errorf("%w (it is %s, %v)", err, v.Status, v.Metadata)
	}
	return v, err
}

// WaitGone waits until a volume is not there any more.
func (c *Client) WaitGone(ctx context.Context, id string, limit time.Duration) error {
	return wait(ctx, limit, "volume "+id+" to be gone", func() (bool, error) {
		_, err := c.Volume(ctx, id)
		if e, ok := err.(*Error); ok && e.Status == http.StatusNotFound { //nolint:errorlint // never wrapped by Do
			return true, nil
		}
		return false, err
	})
}

// Attach does what Nova does: reserve, connect, complete.
func (c *Client) Attach(ctx context.Context, volume, host, initiator string) (Attachment, error) {
	var out struct{ Attachment Attachment }
	if err := c.Do(ctx, http.MethodPost, "/attachments", object{"attachment": object{"volume_uuid": volume, "instance_uuid": "152e359d-e56d-46dc-84d3-bbc763080a95"}}, &out); err != nil {
		return out.Attachment, err
	}
	return c.Connect(ctx, out.Attachment.ID, host, initiator)
}

// Connect gives a reserved attachment its connector and completes it.
func (c *Client) Connect(ctx context.Context, attachment, host, initiator string) (Attachment, error) {
	var out struct{ Attachment Attachment }
	connector := object{"host": host, "ip": "10.77.0.1", "initiator": initiator, "platform": "x86_64", "os_type": "linux", "multipath": false, "mountpoint": "/dev/vda"}
	if err := c.Do(ctx, http.MethodPut, "/attachments/"+attachment, object{"attachment": object{"connector": connector}}, &out); err != nil {
		return out.Attachment, err
	}
	return out.Attachment, c.Do(ctx, http.MethodPost, "/attachments/"+attachment+"/action", object{"os-complete": nil}, nil)
}

// Detach deletes an attachment.
func (c *Client) Detach(ctx context.Context, attachment string) error {
	return c.Do(ctx, http.MethodDelete, "/attachments/"+attachment, nil, nil)
}

// DeleteVolume asks for a volume's end.
func (c *Client) DeleteVolume(ctx context.Context, id string) error {
	return c.Do(ctx, http.MethodDelete, "/volumes/"+id, nil, nil)
}

// Member of an image's tree, as the operator's view shows it.
type Member struct {
	Host          string `json:"host"`
	Parent        string `json:"parent"`
	Role          string `json:"role"`
	State         string `json:"state"`
	Depth         int    `json:"depth"`
	UpstreamBytes int64  `json:"upstream_bytes"`
	ReadBytes     int64  `json:"read_bytes"`
	ServedBytes   int64  `json:"served_bytes"`
	CacheHits     int64  `json:"cache_hits"`
	CacheMisses   int64  `json:"cache_misses"`
	Error         string `json:"error"`
}

// Tree lists an image's members.
func (c *Client) Tree(ctx context.Context, image string) ([]Member, error) {
	var out struct{ Members []Member }
	return out.Members, c.Do(ctx, http.MethodGet, "/vmthunder/images/"+image+"/tree", nil, &out)
}

// Nova is a client that acts as Nova does: the user's token (admin's) and a service token.
func (c *Cluster) Nova() *Client {
	n := c.Admin()
	n.service = true
	return n
}
