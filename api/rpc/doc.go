// Package rpc speaks oslo.messaging's wire format: calls and casts between the
// control plane and the node agents, and notifications to and from the other
// OpenStack services.
//
// The codec ([Request], [Reply], [Failure], [Notification], [Wrap], [Unwrap]) is
// pure and writes byte for byte what oslo.messaging 14 writes. [Client], [Server] and
// [Notifier] work over a [Transport]; RabbitMQ's is in package transport, one
// in memory with faults to inject in package memory. Both pass the suite in
// package rpctest.
//
// # What is promised
//
// A call returns the server's answer or an error by the deadline of its context
// (one minute if it has none), whatever becomes of the broker. A request is
// delivered at least once: the server acknowledges it only after its method has
// returned and its reply was taken by the broker, and requests sent again carry the
// same _unique_id, by which the server knows them and answers with the reply it
// sent before. What it remembers is lost when it restarts, so methods must be
// idempotent.
//
// oslo.messaging's own servers acknowledge before they execute; with them a
// request is lost when the server dies. That is the one intended difference.
//
// The format is defined by oslo_messaging/_drivers/{common,amqp,amqpdriver,impl_rabbit}.py
// of https://opendev.org/openstack/oslo.messaging.
package rpc

// Topics of the product.
const (
	// TopicControl is where the control plane listens to the node agents.
	TopicControl = "vmthunder-control"
	// TopicNode is where the node agents listen; the server is the node's name.
	TopicNode = "vmthunder-node"
)
