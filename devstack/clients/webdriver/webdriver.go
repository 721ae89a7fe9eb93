// Package webdriver drives a headless Chromium through its chromedriver, by the protocol
// of the W3C (www.w3.org/TR/webdriver2): as much of it as clicking through a web page
// needs. Debian's packages are chromium and chromium-driver.
package webdriver

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Browser is one browser with one window.
type Browser struct {
	driver  *exec.Cmd
	gone    chan struct{} // closed when the driver has ended
	home    string
	base    string // http://127.0.0.1:port/session/ID
	client  *http.Client
	Timeout time.Duration // for what has to appear; set before use, 30 s by default
}

// Error is an error of the browser, such as "no such element".
type Error struct{ Kind, Message string }

func (e *Error) Error() string {
	first, _, _ := strings.Cut(e.Message, "\n")
	return e.Kind + ": " + first
}

// elementKey is the name under which the protocol hands out elements.
const elementKey = "element-6066-11e4-a52e-4f735466cecf"

// Start starts a driver and a browser in the network namespace of the caller. log takes
// the driver's output; nil throws it away.
func Start(ctx context.Context, log io.Writer) (_ *Browser, err error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	b := &Browser{gone: make(chan struct{}), client: &http.Client{Timeout: 2 * time.Minute}, Timeout: 30 * time.Second}
	if b.home, err = os.MkdirTemp("", "vmthunder-browser-"); err != nil {
		return nil, err
	}
	b.driver = exec.Command("/usr/bin/chromedriver", "--port="+strconv.Itoa(port), "--allowed-ips=127.0.0.1")
	b.driver.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + b.home, "TMPDIR=" + b.home, "LANG=C.UTF-8", "TZ=UTC"}
	b.driver.Stdout, b.driver.Stderr = log, log
	b.driver.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the browser's processes are in its group
	if err := b.driver.Start(); err != nil {
		os.RemoveAll(b.home)
		return nil, fmt.Errorf("%w; run devstack/packages.sh clients", err)
	}
	go func() {
		_ = b.driver.Wait() // how it ends does not matter
		close(b.gone)
	}()
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("start a browser: %w", err), b.Close())
		}
	}()
	b.base = "http://127.0.0.1:" + strconv.Itoa(port)
	if err := b.Wait(ctx, "the driver", func() (bool, error) { return b.do(ctx, http.MethodGet, "/status", nil, nil) == nil, nil }); err != nil {
		return nil, err
	}
	var session struct {
		ID string `json:"sessionId"`
	}
	arguments := []string{
		"--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1400,1000",
		"--no-first-run", "--disable-background-networking", "--disable-component-update", "--no-proxy-server",
	}
	err = b.do(ctx, http.MethodPost, "/session", object{"capabilities": object{"alwaysMatch": object{
		"browserName": "chrome", "goog:chromeOptions": object{"binary": "/usr/bin/chromium", "args": arguments},
	}}}, &session)
	if err != nil {
		return nil, err
	}
	b.base += "/session/" + session.ID
	return b, nil
}

type object = map[string]any

func freePort(ctx context.Context) (int, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil //nolint:forcetypeassert // of a TCP listener
}

// Close ends browser and driver.
func (b *Browser) Close() error {
	if strings.Contains(b.base, "/session/") {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		_ = b.do(ctx, http.MethodDelete, "", nil, nil) // it is killed below in any case
		cancel()
	}
	err := syscall.Kill(-b.driver.Process.Pid, syscall.SIGKILL)
	if errors.Is(err, syscall.ESRCH) {
		err = nil
	}
	<-b.gone
	return errors.Join(err, os.RemoveAll(b.home))
}

// do makes one call and decodes the value of its answer.
func (b *Browser) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if method == http.MethodPost {
		if in == nil {
			in = object{}
		}
		raw, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, b.base+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := b.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct{ Value json.RawMessage }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s %s: %s: %w", method, path, resp.Status, err)
	}
	if resp.StatusCode != http.StatusOK {
		var e struct{ Error, Message string }
		if err := json.Unmarshal(answer.Value, &e); err != nil {
			return fmt.Errorf("%s %s: %s: %w", method, path, resp.Status, err)
		}
		return &Error{Kind: e.Error, Message: e.Message}
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer.Value, out)
}

// Open loads a page.
func (b *Browser) Open(ctx context.Context, url string) error {
	return b.do(ctx, http.MethodPost, "/url", object{"url": url}, nil)
}

// URL is the address of the page.
func (b *Browser) URL(ctx context.Context) (url string, err error) {
	return url, b.do(ctx, http.MethodGet, "/url", nil, &url)
}

// Script runs JavaScript in the page; what it returns goes into out, its arguments are in
// its variable arguments.
func (b *Browser) Script(ctx context.Context, code string, out any, args ...any) error {
	if args == nil {
		args = []any{}
	}
	return b.do(ctx, http.MethodPost, "/execute/sync", object{"script": code, "args": args}, out)
}

// Screenshot is a PNG of the window.
func (b *Browser) Screenshot(ctx context.Context) ([]byte, error) {
	var text string
	if err := b.do(ctx, http.MethodGet, "/screenshot", nil, &text); err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(text)
}

// find returns the path of the first element that a CSS selector matches.
func (b *Browser) find(ctx context.Context, css string) (string, error) {
	var element map[string]string
	err := b.do(ctx, http.MethodPost, "/element", object{"using": "css selector", "value": css}, &element)
	return "/element/" + element[elementKey], err
}

// Click clicks an element once it is there and can be clicked.
func (b *Browser) Click(ctx context.Context, css string) error {
	return b.retry(ctx, "click "+css, func() error {
		e, err := b.find(ctx, css)
		if err != nil {
			return err
		}
		return b.do(ctx, http.MethodPost, e+"/click", nil, nil)
	})
}

// Fill replaces the text of an input once it is there.
func (b *Browser) Fill(ctx context.Context, css, text string) error {
	return b.retry(ctx, "fill "+css, func() error {
		e, err := b.find(ctx, css)
		if err != nil {
			return err
		}
		if err := b.do(ctx, http.MethodPost, e+"/clear", nil, nil); err != nil {
			return err
		}
		return b.do(ctx, http.MethodPost, e+"/value", object{"text": text}, nil)
	})
}

// retry repeats what the browser refuses for the moment.
func (b *Browser) retry(ctx context.Context, what string, f func() error) error {
	var last error
	err := b.Wait(ctx, what, func() (bool, error) {
		last = f()
		if refused := new(Error); last != nil && !errors.As(last, &refused) {
			return false, last
		}
		return last == nil, nil
	})
	if err != nil && last != nil {
		return fmt.Errorf("%s: %w", what, last)
	}
	return err
}

// Wait polls until done says so or Timeout has passed.
func (b *Browser) Wait(ctx context.Context, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, b.Timeout)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := done()
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, ctx.Err())
		case <-b.gone:
			return fmt.Errorf("%s: the driver has ended", what)
		case <-tick.C:
		}
	}
}
