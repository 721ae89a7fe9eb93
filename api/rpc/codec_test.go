package rpc

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type sample struct {
	Exchange   string `json:"exchange"`
	RoutingKey string `json:"routing_key"`
	Body       string `json:"body"`
}

// samples were captured from Cinder 21.3.1 with oslo.messaging 14.0.3. More of them, in
// the same form, can be named by VMTHUNDER_BUS_SAMPLES.
func samples(tb testing.TB) []sample {
	tb.Helper()
	files := []string{"testdata/bus_samples.jsonl"}
	if more := os.Getenv("VMTHUNDER_BUS_SAMPLES"); more != "" {
		files = append(files, more)
	}
	var out []sample
	for _, name := range files {
		f, err := os.Open(name) //nolint:gosec // of the test
		if err != nil {
			tb.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		s := bufio.NewScanner(f)
		s.Buffer(nil, 1<<24)
		for s.Scan() {
			var x sample
			if err := json.Unmarshal(s.Bytes(), &x); err != nil {
				tb.Fatal(err)
			}
			out = append(out, x)
		}
		if s.Err() != nil {
			tb.Fatal(s.Err())
		}
	}
	return out
}

// transcode decodes and encodes one message of whatever kind.
func transcode(body []byte) (kind string, v any, again []byte, err error) {
	o, err := open(body)
	if err != nil {
		return "", nil, nil, err
	}
	switch {
	case o.has("method"):
		r, err := DecodeRequest(body)
		if err != nil {
			return "", nil, nil, err
		}
		again, err = r.Encode()
		return "request", r, again, err
	case o.has("event_type"):
		n, err := DecodeNotification(body)
		if err != nil {
			return "", nil, nil, err
		}
		again, err = n.Encode()
		return "notification", n, again, err
	default:
		r, err := DecodeReply(body)
		if err != nil {
			return "", nil, nil, err
		}
		again, err = r.Encode()
		return "reply", r, again, err
	}
}

func TestSamplesByteForByte(t *testing.T) {
	kinds := map[string]int{}
	for i, s := range samples(t) {
		kind, v, again, err := transcode([]byte(s.Body))
		if err != nil {
			t.Fatalf("sample %d: %v", i, err)
		}
		kinds[kind]++
		if string(again) != s.Body {
			t.Errorf("sample %d, %s, encoded otherwise:\n%s", i, kind, cmp.Diff(s.Body, string(again)))
		}
		_, v2, _, err := transcode(again)
		if err != nil {
			t.Fatalf("sample %d: again: %v", i, err)
		}
		if d := cmp.Diff(v, v2, cmp.AllowUnexported(Context{}, member{})); d != "" {
			t.Errorf("sample %d decodes otherwise: %s", i, d)
		}
	}
	for _, k := range []string{"request", "reply", "notification"} {
		if kinds[k] == 0 {
			t.Errorf("no %s among the samples", k)
		}
	}
	t.Log(kinds)
}

func TestSampleFields(t *testing.T) {
	for _, s := range samples(t) {
		kind, v, _, err := transcode([]byte(s.Body))
		if err != nil {
			t.Fatal(err)
		}
		switch x := v.(type) {
		case Request:
			if x.Method == "get_pools" {
				id := x.Context.Identity()
				if x.Version != "3.0" || x.Timeout != nil || len(x.MsgID) != 32 || !strings.HasPrefix(x.ReplyQ, "reply_") ||
					string(x.Args) != `{"filters": {}}` || !id.IsAdmin || id.UserID != "admin" || id.RequestID == "" {
					t.Errorf("get_pools: %+v", x)
				}
			}
		case Reply:
			if x.Failure != nil && (x.Failure.Class != "InvalidVolume" || x.Failure.Module != "cinder.exception" ||
				!strings.HasPrefix(x.Failure.Message, "Invalid volume: ") || len(x.Failure.Traceback) != 8) {
				t.Errorf("failure: %+v", x.Failure)
			}
		case Notification:
			if x.Timestamp.IsZero() || x.Priority == "" || x.MessageID == "" {
				t.Errorf("notification: %+v", x)
			}
		default:
			t.Error(kind)
		}
	}
}

func TestUnwrap(t *testing.T) {
	for _, c := range []struct {
		body, want string
		bad        bool
	}{
		{body: `{"oslo.version": "2.0", "oslo.message": "{\"a\": 1}"}`, want: `{"a": 1}`},
		{body: `{"oslo.message":"{}","oslo.version":"2.7"}`, want: `{}`},
		{body: `{"a": 1}`, want: `{"a": 1}`},
		{body: `{"oslo.version": "2.0"}`, want: `{"oslo.version": "2.0"}`},
		{body: `{"oslo.version": "3.0", "oslo.message": "{}"}`, bad: true},
		{body: `{"oslo.version": 2.0, "oslo.message": "{}"}`, bad: true},
		{body: `{"oslo.version": "2.0", "oslo.message": {}}`, bad: true},
		{body: `[]`, bad: true},
		{body: ``, bad: true},
		{body: `{} {}`, bad: true},
	} {
		got, err := Unwrap([]byte(c.body))
		if c.bad != errors.Is(err, ErrBadMessage) || string(got) != c.want && !c.bad {
			t.Errorf("%s: %s, %v", c.body, got, err)
		}
	}
}

func TestMalformed(t *testing.T) {
	request := func(b []byte) error { _, err := DecodeRequest(b); return err }
	reply := func(b []byte) error { _, err := DecodeReply(b); return err }
	notification := func(b []byte) error { _, err := DecodeNotification(b); return err }
	for body, decode := range map[string]func([]byte) error{
		`{"args": {}}`:                                     request,
		`{"method": 1}`:                                    request,
		`{"method": "m", "args": []}`:                      request,
		`{"method": "m", "_msg_id": "1"}`:                  request,
		`{"method": "m", "_timeout": "x"}`:                 request,
		`{"result": 1}`:                                    reply,
		`{"_msg_id": "1", "failure": "no JSON"}`:           reply,
		`{"_msg_id": "1", "failure": 3}`:                   reply,
		`{"_msg_id": "1", "ending": "yes"}`:                reply,
		`{"payload": {}}`:                                  notification,
		`{"event_type": "e", "timestamp": "yesterday"}`:    notification,
		`{"oslo.version": "2.0", "oslo.message": "[1,2]"}`: request,
	} {
		if err := decode([]byte(body)); !errors.Is(err, ErrBadMessage) {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestTolerant(t *testing.T) {
	r, err := DecodeRequest([]byte(`{"_context_x":1,"_timeout":2.5,"method":"m","_msg_id":"i","_reply_q":"q"}`))
	if err != nil || *r.Timeout != 2.5 || string(r.Args) != "{}" || string(r.Context.Get("x")) != "1" {
		t.Errorf("%+v, %v", r, err)
	}
	p, err := DecodeReply([]byte(`{"_msg_id":"i","failure":{"class":"C","tb":"text"},"ending":true}`))
	if err != nil || p.Failure.Class != "C" || p.Failure.Traceback != nil || !p.Ending {
		t.Errorf("%+v, %v", p, err)
	}
	for _, stamp := range []string{"2026-11-23 07:52:25", "2026-11-23T07:52:25.000000", "2026-11-23 07:52:25.000"} {
		n, err := DecodeNotification([]byte(`{"event_type":"e","timestamp":"` + stamp + `"}`))
		if err != nil || !n.Timestamp.Equal(time.Date(2026, 11, 23, 7, 52, 25, 0, time.UTC)) {
			t.Errorf("%s: %+v, %v", stamp, n, err)
		}
	}
}

func TestPythonForm(t *testing.T) {
	in := "{\"a\":[1,2.50,{\"b\" :null}],\n\t\"é\\u00e9\\\"\\\\\":\"x:y,z \U0001f600\u2028<&>\x7f\"}"
	want := `{"a": [1, 2.50, {"b": null}], "\u00e9\u00e9\"\\": "x:y,z \ud83d\ude00\u2028<&>` + "\x7f" + `"}`
	if got := string(appendPython(nil, []byte(in))); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got, want := string(appendString(nil, "\"\\\n\r\t\b\f\x00\x1f/é\U0001f600\xff")),
		`"\"\\\n\r\t\b\f\u0000\u001f/\u00e9\ud83d\ude00\ufffd"`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestTokenStaysHidden(t *testing.T) {
	c, err := NewContext(Identity{UserID: "u", RequestID: "req-1"}).With(keyToken, "sesame")
	if err != nil {
		t.Fatal(err)
	}
	logged, err := json.Marshal(map[string]any{"c": c})
	if err != nil {
		t.Fatal(err)
	}
	body, err := Notification{EventType: "e", Context: c, Timestamp: time.Now()}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	r := Request{Method: "m", Context: c}
	for _, s := range []string{c.String(), c.GoString(), string(logged), string(body), sprint(r)} {
		if strings.Contains(s, "sesame") {
			t.Errorf("token in %s", s)
		}
	}
	if body, _ := r.Encode(); !bytes.Contains(body, []byte("sesame")) {
		t.Error("Encode must leave the token to its caller")
	}
}

func TestErrorTable(t *testing.T) {
	mine := errors.New("mine")
	table := ErrorTable{{"Mine", "m", mine}}.withBuiltin()
	relayed := table.fromFailure(Failure{Class: "Other", Module: "x.y", Message: "text"})
	for _, c := range []struct {
		err           error
		class, module string
	}{
		{mine, "Mine", "m"},
		{ErrNoSuchMethod, "NoSuchMethod", osloDispatcher},
		{errors.New("any"), "Exception", "builtins"},
		{relayed, "Other", "x.y"},
	} {
		f := table.failure(c.err)
		if f.Class != c.class || f.Module != c.module || f.Message != c.err.Error() {
			t.Errorf("%v: %+v", c.err, f)
		}
	}
	if !errors.Is(table.fromFailure(Failure{Class: "Mine", Module: "m"}), mine) {
		t.Error("not mine")
	}
	if errors.Is(table.fromFailure(Failure{Class: "Mine", Module: "elsewhere"}), mine) {
		t.Error("another module's class taken for mine")
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range samples(f) {
		f.Add([]byte(s.Body))
	}
	f.Add([]byte(`{"method":"m","method":"n","_context_":1}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		kind, v, again, err := transcode(body)
		if err != nil {
			return
		}
		kind2, v2, third, err := transcode(again)
		if err != nil || kind2 != kind {
			t.Fatalf("%s became %s: %v\n%s", kind, kind2, err, again)
		}
		if !bytes.Equal(third, again) {
			t.Fatalf("not stable:\n%s\n%s", again, third)
		}
		_ = v
		_ = v2
	})
}

// FuzzPythonForm: the form changes, the meaning doesn't.
func FuzzPythonForm(f *testing.F) {
	f.Add([]byte(`{"a": [1, "é\ud83d\ude00\\", -1.5e7], "b": {}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var want, got any
		if json.Unmarshal(raw, &want) != nil {
			return
		}
		out := appendPython(nil, raw)
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("%s\n%s", d, out)
		}
	})
}

func sprint(r Request) string { return fmt.Sprintf("%v %+v %#v", r, r, r) }
