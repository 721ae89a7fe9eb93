package scheduler

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/vmthunder/vmthunder/db/model"
)

// room is what the nodes that are alive and enabled have for new volumes.
type room struct {
	compute, origins int
	largest          map[string]int64 // pool, in bytes, by availability zone
	pools            []model.Capabilities
}

func roomOf(b model.Backend, nodes []model.Node) room {
	r := room{largest: map[string]int64{}}
	for _, n := range nodes {
		if !n.Alive || !n.Enabled {
			continue
		}
		if n.Origin {
			r.origins++
		}
		if n.Compute {
			r.compute++
			r.pools = append(r.pools, b.Capabilities(&n))
			r.largest[n.AvailabilityZone] = max(r.largest[n.AvailabilityZone], n.PoolTotal)
		}
	}
	return r
}

// unplaceable says why no node could hold the volume, "" if one could.
func (r room) unplaceable(v *model.Volume, specs model.StringMap, image bool) string {
	largest, zone := r.largest[v.AvailabilityZone]
	switch {
	case r.compute == 0:
		return "no node is alive and enabled to hold a volume"
	case image && r.origins == 0 && v.Status == model.VolumeDownloading:
		return "no origin node is alive to import the image"
	case !zone:
		return fmt.Sprintf("no node is alive in availability zone %s", v.AvailabilityZone)
	case !image && v.Bytes() > largest:
		// A blank volume can fill up wholly; one from an image takes what is written.
		return fmt.Sprintf("%d GiB are more than the largest pool (%d GiB)", v.SizeGiB, largest>>30)
	case image && v.Bytes() > 100*largest:
		return fmt.Sprintf("%d GiB are more than a hundred times the largest pool (%d GiB)", v.SizeGiB, largest>>30)
	}
	return r.lack(specs)
}

// lack says what no pool fulfils of a type's extra specs, "" if one fulfils all.
func (r room) lack(specs model.StringMap) (why string) {
	if len(specs) == 0 {
		return ""
	}
	for _, p := range r.pools {
		if why = p.Lacks(specs); why == "" {
			return ""
		}
	}
	return "no node's pool is as the volume type wants it: " + why
}

// roomAge is how old a look at the nodes may be that lets a volume be made. Nodes are
// found dead after many times that; and a volume is none the worse for it, since what
// counts is who is there when it is attached. None is refused but after a fresh look.
const roomAge = time.Second

// lookout remembers the last look at all nodes. Safe for concurrent use.
type lookout struct {
	mu   sync.Mutex
	seen *room
	at   time.Time
}

// recent returns what was seen lately; nil says that the caller is to look.
func (l *lookout) recent(now time.Time) *room {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.at) < roomAge {
		return l.seen
	}
	if l.seen != nil {
		l.at = now // one looks, the others need not
	}
	return nil
}

func (l *lookout) put(r *room, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen, l.at = r, now
}

// room looks at the nodes, or not if that was done just now and fresh is not asked for.
func (s *Service) room(ctx context.Context, fresh bool) (room, error) {
	if !fresh {
		if r := s.lookout.recent(s.opt.Now()); r != nil {
			return *r, nil
		}
	}
	nodes, err := s.store.Nodes(ctx)
	if err != nil {
		s.lookout.put(nil, time.Time{})
		return room{}, err
	}
	r := roomOf(s.opt.Backend, nodes)
	s.lookout.put(&r, s.opt.Now())
	return r, nil
}
