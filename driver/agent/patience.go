package agent

import (
	"errors"
	"time"
)

const (
	firstRetry  = 200 * time.Millisecond
	parentRetry = 500 * time.Millisecond
	parentTime  = 30 * time.Second
	lastRetry   = 10 * time.Second
)

// patience is how long somebody who has failed waits before he tries again: half as long
// again each time, up to lastRetry. A parent that lets nobody in is most likely being built
// itself, so in the first parentTime it is asked every parentRetry: in a tree that comes up
// cold each level begins when the one above has ended, and growing pauses would add up. The
// zero value has not failed yet.
type patience struct{ last, waited time.Duration }

// next returns the pause after one more failure.
func (p *patience) next(err error) time.Duration {
	limit := lastRetry
	if errors.Is(err, errNoParent) && p.waited < parentTime {
		limit = parentRetry
	}
	p.last = min(max(firstRetry, p.last+p.last/2), limit)
	p.waited += p.last
	return p.last
}
