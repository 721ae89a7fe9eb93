package rpc

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Request asks for a method. It is a call if it has a MsgID, else a cast.
type Request struct {
	Method    string
	Args      json.RawMessage // an object, the arguments by name
	Namespace string          // empty: none
	Version   string          // "1.0"; empty: none
	MsgID     string          // 32 hex digits, by which the reply is known
	ReplyQ    string          // queue to send the reply to
	// Timeout in seconds: within it the caller wants a sign of life; nil: no need.
	Timeout  *float64
	UniqueID string // 32 hex digits, the same in each transmission
	Context  Context
}

// Encode gives the body of the AMQP message, with what token the context has.
func (r Request) Encode() ([]byte, error) {
	var o object
	o = append(o, member{"method", appendString(nil, r.Method)})
	args := r.Args
	if isNull(args) {
		args = json.RawMessage("{}")
	}
	if err := o.add("args", args); err != nil {
		return nil, err
	}
	if r.Namespace != "" {
		o.addText("namespace", r.Namespace)
	}
	if r.Version != "" {
		o.addText("version", r.Version)
	}
	if r.MsgID != "" {
		o.addText("_msg_id", r.MsgID)
		o.addText("_reply_q", r.ReplyQ)
		if err := o.add("_timeout", r.Timeout); err != nil {
			return nil, err
		}
	}
	if r.UniqueID != "" {
		o.addText("_unique_id", r.UniqueID)
	}
	o.addContext(r.Context)
	return Wrap(o.encode()), nil
}

// DecodeRequest reads the body of an AMQP message. Errors wrap [ErrBadMessage].
func DecodeRequest(body []byte) (Request, error) {
	o, err := open(body)
	if err != nil {
		return Request{}, err
	}
	c, o := o.split()
	r := Request{
		Method:    o.text("method"),
		Args:      o.get("args"),
		Namespace: o.text("namespace"),
		Version:   o.text("version"),
		MsgID:     o.text("_msg_id"),
		ReplyQ:    o.text("_reply_q"),
		UniqueID:  o.text("_unique_id"),
		Context:   c,
	}
	if r.Method == "" {
		return Request{}, fmt.Errorf("%w: no method", ErrBadMessage)
	}
	if r.MsgID != "" && r.ReplyQ == "" {
		return Request{}, fmt.Errorf("%w: call without a reply queue", ErrBadMessage)
	}
	if isNull(r.Args) {
		r.Args = json.RawMessage("{}")
	}
	if r.Args[0] != '{' {
		return Request{}, fmt.Errorf("%w: args is not an object", ErrBadMessage)
	}
	if raw := o.get("_timeout"); !isNull(raw) {
		var s float64
		if err := json.Unmarshal(raw, &s); err != nil {
			return Request{}, fmt.Errorf("%w: _timeout: %w", ErrBadMessage, err)
		}
		r.Timeout = &s
	}
	return r, nil
}

// Reply answers a call. One that has neither Failure nor Ending is a heartbeat:
// the server is still at it.
type Reply struct {
	Result   json.RawMessage
	Failure  *Failure
	Ending   bool
	MsgID    string
	UniqueID string
}

// Encode gives the body of the AMQP message.
func (r Reply) Encode() ([]byte, error) {
	var o object
	if err := o.add("result", r.Result); err != nil {
		return nil, err
	}
	if r.Failure == nil {
		o.addText("failure", "")
	} else {
		f, err := r.Failure.encode()
		if err != nil {
			return nil, err
		}
		o.addText("failure", string(f))
	}
	if err := o.add("ending", r.Ending); err != nil {
		return nil, err
	}
	o.addText("_msg_id", r.MsgID)
	o.addText("_unique_id", r.UniqueID)
	return Wrap(o.encode()), nil
}

// DecodeReply reads the body of an AMQP message. Errors wrap [ErrBadMessage].
func DecodeReply(body []byte) (Reply, error) {
	o, err := open(body)
	if err != nil {
		return Reply{}, err
	}
	r := Reply{Result: o.get("result"), MsgID: o.text("_msg_id"), UniqueID: o.text("_unique_id")}
	if r.MsgID == "" {
		return Reply{}, fmt.Errorf("%w: reply without _msg_id", ErrBadMessage)
	}
	if r.Result == nil {
		r.Result = json.RawMessage("null")
	}
	if raw := o.get("ending"); !isNull(raw) {
		if err := json.Unmarshal(raw, &r.Ending); err != nil {
			return Reply{}, fmt.Errorf("%w: ending: %w", ErrBadMessage, err)
		}
	}
	if raw := o.get("failure"); !isNull(raw) {
		f, err := decodeFailure(raw)
		if err != nil {
			return Reply{}, err
		}
		r.Failure = &f
	}
	return r, nil
}

// Failure is an exception on its way, a JSON string inside a [Reply].
type Failure struct {
	Class     string // "InvalidVolume"
	Module    string // "cinder.exception"
	Message   string
	Traceback []string        // lines
	Args      json.RawMessage // a list, the arguments of the class's constructor
	Kwargs    json.RawMessage // an object, likewise
}

func (f Failure) encode() ([]byte, error) {
	var o object
	o = append(o,
		member{"class", appendString(nil, f.Class)},
		member{"module", appendString(nil, f.Module)},
		member{"message", appendString(nil, f.Message)})
	tb, args, kwargs := f.Traceback, f.Args, f.Kwargs
	if tb == nil {
		tb = []string{}
	}
	if isNull(args) {
		args = json.RawMessage("[]")
	}
	if isNull(kwargs) {
		kwargs = json.RawMessage("{}")
	}
	if err := o.add("tb", tb); err != nil {
		return nil, err
	}
	if err := o.add("args", args); err != nil {
		return nil, err
	}
	if err := o.add("kwargs", kwargs); err != nil {
		return nil, err
	}
	return o.encode(), nil
}

// decodeFailure takes oslo's JSON string, or the object itself.
func decodeFailure(raw json.RawMessage) (Failure, error) {
	if raw[0] == '"' {
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return Failure{}, fmt.Errorf("%w: failure: %w", ErrBadMessage, err)
		}
		raw = json.RawMessage(s)
	}
	o, err := parseObject(raw)
	if err != nil {
		return Failure{}, fmt.Errorf("failure: %w", err)
	}
	f := Failure{
		Class: o.text("class"), Module: o.text("module"), Message: o.text("message"),
		Args: o.get("args"), Kwargs: o.get("kwargs"),
	}
	if raw := o.get("tb"); !isNull(raw) {
		// A traceback of another form is no reason to lose the failure.
		if json.Unmarshal(raw, &f.Traceback) != nil {
			f.Traceback = nil
		}
	}
	return f, nil
}

// Notification tells the world that something happened.
type Notification struct {
	MessageID   string // a UUID
	PublisherID string // <service>.<host>
	EventType   string // "volume.create.end"
	Priority    string // "INFO", "ERROR", ...
	Payload     json.RawMessage
	Timestamp   time.Time // to the microsecond, UTC
	UniqueID    string
	Context     Context
}

// timestampLayout is Python's str(datetime), which has no zone and, when the
// microseconds are 0, no fraction either; parsing accepts both.
const timestampLayout = "2006-01-02 15:04:05.000000"

// Encode gives the body of the AMQP message, in oslo's envelope (driver
// messagingv2). The context's token is left out.
func (n Notification) Encode() ([]byte, error) {
	var o object
	o.addText("message_id", n.MessageID)
	o.addText("publisher_id", n.PublisherID)
	o.addText("event_type", n.EventType)
	o.addText("priority", n.Priority)
	if err := o.add("payload", n.Payload); err != nil {
		return nil, err
	}
	o.addText("timestamp", n.Timestamp.UTC().Format(timestampLayout))
	o.addText("_unique_id", n.UniqueID)
	o.addContext(n.Context.WithoutToken())
	return Wrap(o.encode()), nil
}

// DecodeNotification reads the body of an AMQP message, of driver messagingv2 or
// messaging (bare). Errors wrap [ErrBadMessage].
func DecodeNotification(body []byte) (Notification, error) {
	o, err := open(body)
	if err != nil {
		return Notification{}, err
	}
	c, o := o.split()
	n := Notification{
		MessageID:   o.text("message_id"),
		PublisherID: o.text("publisher_id"),
		EventType:   o.text("event_type"),
		Priority:    o.text("priority"),
		Payload:     o.get("payload"),
		UniqueID:    o.text("_unique_id"),
		Context:     c.WithoutToken(),
	}
	if n.EventType == "" {
		return Notification{}, fmt.Errorf("%w: no event_type", ErrBadMessage)
	}
	if n.Payload == nil {
		n.Payload = json.RawMessage("null")
	}
	if s := o.text("timestamp"); s != "" {
		// Go accepts a fraction the layout has not.
		t, err := time.Parse(time.DateTime, strings.Replace(strings.TrimSuffix(s, "Z"), "T", " ", 1))
		if err != nil {
			return Notification{}, fmt.Errorf("%w: timestamp: %w", ErrBadMessage, err)
		}
		n.Timestamp = t
	}
	return n, nil
}
