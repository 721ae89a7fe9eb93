package transport

import (
	"encoding/binary"

	"github.com/streadway/amqp"
)

// amqplain is RabbitMQ's own login method, oslo's default (rabbit_login_method): an
// AMQP field table without its length. The library's AMQPlainAuth writes none.
type amqplain struct{ user, password string }

func (a amqplain) Mechanism() string { return "AMQPLAIN" }

func (a amqplain) Response() string {
	var b []byte
	for _, f := range [][2]string{{"LOGIN", a.user}, {"PASSWORD", a.password}} {
		b = append(b, byte(len(f[0])))
		b = append(b, f[0]...)
		b = append(b, 'S')
		b = binary.BigEndian.AppendUint32(b, uint32(len(f[1])))
		b = append(b, f[1]...)
	}
	return string(b)
}

func sasl(h Host) []amqp.Authentication {
	return []amqp.Authentication{
		amqplain{h.User, h.Password},
		&amqp.PlainAuth{Username: h.User, Password: h.Password},
	}
}
