package transport

import (
	"fmt"
	"time"

	"github.com/streadway/amqp"
)

// await calls the library, whose functions know no context. It returns when f does or
// the connection is lost; a broker that doesn't answer for too long is hung up on.
func await[T any](s *session, f func() (T, error)) (T, error) {
	type outcome struct {
		v   T
		err error
	}
	t := time.AfterFunc(s.confirm, s.hangUp)
	defer t.Stop()
	result := make(chan outcome, 1)
	go func() {
		v, err := f()
		result <- outcome{v, err}
	}()
	select {
	case r := <-result:
		return r.v, r.err
	case <-s.done:
		var zero T
		return zero, fmt.Errorf("%w: %w", errLost, s.err)
	}
}

// hangUp breaks the connection; the library notices and ends all that is on it.
func (s *session) hangUp() { _ = s.sock.Close() }

// channel of the library's. Its Close must not be called when the broker has closed it:
// the library would give its number back twice, a new channel that got the number
// meanwhile would lose its messages, and the connection would hang. So channels are
// closed by [session.shut] only, and those for messages not at all.
type channel struct {
	*amqp.Channel
	gone chan *amqp.Error
}

func (s *session) openChannel() (*channel, error) {
	return await(s, func() (*channel, error) {
		s.numbers.Lock()
		defer s.numbers.Unlock()
		ch, err := s.conn.Channel()
		if err != nil {
			return nil, err
		}
		return &channel{ch, ch.NotifyClose(make(chan *amqp.Error, 1))}, nil
	})
}

func (s *session) shut(ch *channel) {
	_, _ = await(s, func() (struct{}, error) {
		s.numbers.Lock()
		defer s.numbers.Unlock()
		select {
		case <-ch.gone:
			return struct{}{}, nil
		default:
		}
		if err := ch.Close(); err != nil {
			s.hangUp() // the broker closed it at this very moment: see above
		}
		return struct{}{}, nil
	})
}
