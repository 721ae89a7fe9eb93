package rpc

import (
	"errors"
	"fmt"
)

// Sentinel errors, to be tested with [errors.Is].
var (
	// ErrBadMessage: the bytes are not a message of this format.
	ErrBadMessage = errors.New("malformed message")
	// ErrNoConsumer: nobody listens where the message was sent; nobody got it. A server
	// whose connection broke a moment ago counts as nobody until it is back.
	ErrNoConsumer = errors.New("nobody listens on the bus")
	// ErrConnectionLost: the connection to the broker broke while the answer was
	// awaited; whether the method was executed is not known.
	ErrConnectionLost = errors.New("connection to the message bus was lost")
	// ErrTimeout: no answer came in time. It comes with
	// context.DeadlineExceeded when the context's deadline was the reason.
	ErrTimeout = errors.New("no answer in time")
	// ErrNotConnected: there is no connection to the broker now.
	ErrNotConnected = errors.New("not connected to the message bus")
	// ErrTopology: the broker refuses our queue or exchange, mostly because it stands
	// there with other flags (amqp_durable_queues, amqp_auto_delete).
	ErrTopology = errors.New("message bus refuses the queue or exchange")
	// ErrRefused: the broker accepts no message of this kind (size, rights).
	ErrRefused = errors.New("message bus refuses the message")
	// ErrClosed: the client, server or transport was closed.
	ErrClosed = errors.New("message bus client is closed")
	// ErrNoSuchMethod: the server does not know the method or namespace.
	ErrNoSuchMethod = errors.New("no such RPC method")
	// ErrUnsupportedVersion: the server does not speak this version of the method.
	ErrUnsupportedVersion = errors.New("unsupported RPC version")
	// ErrInvalidArguments: the arguments do not fit the method.
	ErrInvalidArguments = errors.New("invalid RPC arguments")
	// ErrPanic: the method panicked in the server.
	ErrPanic = errors.New("RPC method panicked")
)

// ErrorClass ties an error of ours to a class on the wire.
type ErrorClass struct {
	Class  string // Python class name, "VolumeNotFound"
	Module string // Python module, "vmthunder.exception"
	Err    error  // sentinel
}

// ErrorTable carries sentinel errors over the wire. Give the same table to server
// and client. The first entry that fits counts, so put the narrow ones first.
type ErrorTable []ErrorClass

const (
	osloDispatcher = "oslo_messaging.rpc.dispatcher"
	ourModule      = "vmthunder.rpc"
)

// builtin follows every table; the first two are what oslo's servers raise.
func builtin() ErrorTable {
	return ErrorTable{
		{"NoSuchMethod", osloDispatcher, ErrNoSuchMethod},
		{"UnsupportedVersion", osloDispatcher, ErrUnsupportedVersion},
		{"InvalidArguments", ourModule, ErrInvalidArguments},
		{"Panic", ourModule, ErrPanic},
		{"BadMessage", ourModule, ErrBadMessage},
		{"Timeout", ourModule, ErrTimeout},
	}
}

func (t ErrorTable) withBuiltin() ErrorTable {
	return append(append(ErrorTable{}, t...), builtin()...)
}

// failure is what err looks like on the wire. An error no entry fits
// becomes a plain Exception, which every Python caller can rebuild.
func (t ErrorTable) failure(err error) Failure {
	f := Failure{Class: "Exception", Module: "builtins", Message: err.Error()}
	if args, e := marshal([]string{f.Message}); e == nil {
		f.Args = args
	}
	for _, c := range t {
		if errors.Is(err, c.Err) {
			f.Class, f.Module = c.Class, c.Module
			return f
		}
	}
	// One that came over the bus goes on as it came.
	if remote, ok := errors.AsType[*RemoteError](err); ok {
		f.Class, f.Module = remote.Class, remote.Module
	}
	return f
}

// fromFailure turns what came over the wire into an error.
func (t ErrorTable) fromFailure(f Failure) error {
	e := &RemoteError{Class: f.Class, Module: f.Module, Message: f.Message, Traceback: f.Traceback}
	for _, c := range t {
		if c.Class == f.Class && c.Module == f.Module {
			e.err = c.Err
			break
		}
	}
	return e
}

// RemoteError is an error the server answered with. It wraps the sentinel of
// [ErrorTable] its class stands for, if any.
type RemoteError struct {
	Class   string
	Module  string
	Message string
	// Traceback of a Python server, in lines; not part of Error.
	Traceback []string
	err       error
}

// Error gives the message and, where that is not ours, the class.
func (e *RemoteError) Error() string {
	switch {
	case e.Message == "":
		return fmt.Sprintf("remote error %s.%s", e.Module, e.Class)
	case e.err != nil:
		return e.Message
	default:
		return fmt.Sprintf("%s.%s: %s", e.Module, e.Class, e.Message)
	}
}

// Unwrap gives the sentinel the class stands for, or nil.
func (e *RemoteError) Unwrap() error { return e.err }
