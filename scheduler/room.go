package scheduler

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/vmthunder/vmthunder/db/model"
)

// room is what the nodes have for new volumes, as they were when somebody looked.
type room struct {
	backend model.Backend
	compute []model.Node // that may hold volumes, be they there or not
	origins int          // that are alive and enabled
	choices *sync.Map    // choice by key, so that a batch's nodes are compared once
}

func roomOf(b model.Backend, nodes []model.Node) room {
	r := room{backend: b, choices: &sync.Map{}}
	for _, n := range nodes {
		if n.Alive && n.Enabled && n.Origin {
			r.origins++
		}
		if n.Compute {
			r.compute = append(r.compute, n)
		}
	}
	return r
}

// node returns the node of that name, nil if it is none that may hold volumes.
func (r room) node(host string) *model.Node {
	i := slices.IndexFunc(r.compute, func(n model.Node) bool { return n.Host == host })
	if i < 0 {
		return nil
	}
	return &r.compute[i]
}

// lacks says what a node's pool does not fulfil of extra specs, "" if it fulfils all.
func (r room) lacks(n *model.Node, specs ...model.StringMap) string {
	return lacks(r.backend, n, specs...)
}

func lacks(b model.Backend, n *model.Node, specs ...model.StringMap) string {
	var caps model.Capabilities
	for _, s := range specs {
		if len(s) == 0 {
			continue
		}
		if caps == nil {
			caps = b.Capabilities(n)
		}
		if why := caps.Lacks(s); why != "" {
			return why
		}
	}
	return ""
}

// choice is what there is for volumes of one type in one availability zone.
type choice struct {
	zone       string
	compute    int          // nodes that are alive and enabled, wherever
	known      bool         // one of them is in the zone
	largest    int64        // pool that could hold such a volume, in bytes
	lack       string       // what no pool in the zone fulfils of the extra specs
	restricted bool         // only some nodes fulfil them, here or elsewhere, alive or not
	open       []model.Node // that fulfil them and may take a volume
	reserved   int          // percent of a pool
	origins    int
	together   bool // the volumes must be on one node
}

// choice is computed once for all volumes that look for the same.
func (r room) choice(zone string, specs ...model.StringMap) choice {
	key := zone
	for _, s := range specs {
		key += "\x00"
		for _, k := range slices.Sorted(maps.Keys(s)) {
			key += "\x01" + k + "\x02" + s[k]
		}
	}
	if c, ok := r.choices.Load(key); ok {
		return c.(choice) //nolint:forcetypeassert // it holds nothing else
	}
	c := r.choose(zone, specs)
	r.choices.Store(key, c)
	return c
}

func (r room) choose(zone string, specs []model.StringMap) choice {
	c := choice{zone: zone, origins: r.origins, reserved: r.backend.ReservedPercentage}
	fits, lack := 0, ""
	for i := range r.compute {
		n := &r.compute[i]
		why := r.lacks(n, specs...)
		if why == "" {
			fits++
		}
		if !n.Alive || !n.Enabled {
			continue
		}
		c.compute++
		if n.AvailabilityZone != zone {
			continue
		}
		c.known = true
		if why != "" {
			lack = why
			continue
		}
		c.largest = max(c.largest, n.PoolTotal)
		c.open = append(c.open, *n)
	}
	if len(c.open) == 0 {
		c.lack = lack
	}
	c.restricted = fits < len(r.compute)
	return c
}

// only is the choice of volumes that must be where others of their group are.
func (c choice) only(r room, host string, specs model.StringMap) choice {
	c.open = slices.DeleteFunc(slices.Clone(c.open), func(n model.Node) bool { return n.Host != host })
	if n := r.node(host); n == nil {
		c.lack = fmt.Sprintf("node %s, where the volumes of the group are, holds no volumes any more", host)
	} else if why := r.lacks(n, specs); why != "" {
		c.lack = fmt.Sprintf("%s; the volumes of the group are on node %s", why, host)
	}
	return c
}

// unplaceable says why no node could hold the volume, "" if one could.
func (c choice) unplaceable(v *model.Volume, image bool) string {
	switch {
	case c.compute == 0:
		return "no node is alive and enabled to hold a volume"
	case image && c.origins == 0 && v.Status == model.VolumeDownloading:
		return "no origin node is alive to import the image"
	case !c.known:
		return fmt.Sprintf("no node is alive in availability zone %s", c.zone)
	case c.lack != "":
		return "no node's pool is as the volume type wants it: " + c.lack
	case !image && v.Bytes() > c.largest:
		// A blank volume can fill up wholly; one from an image takes what is written.
		return fmt.Sprintf("%d GiB are more than the largest pool (%d GiB)", v.SizeGiB, c.largest>>30)
	case image && v.Bytes() > 100*c.largest:
		return fmt.Sprintf("%d GiB are more than a hundred times the largest pool (%d GiB)", v.SizeGiB, c.largest>>30)
	}
	return ""
}

// place gives volumes of a type that is not for every node one each to live on, that with the most
// room, and so that a batch is spread. Others have none before they are attached.
func (c choice) place(vols []model.Volume) {
	if !c.restricted || len(c.open) == 0 {
		return
	}
	left := make([]int64, len(c.open)) // as if volumes were full, so that the next goes elsewhere
	for i := range left {
		left[i] = c.open[i].PoolFree
	}
	for i := range vols {
		if n := roomiest(c.open, left, &vols[i], c.reserved); n >= 0 {
			host := c.open[n].Host
			vols[i].Placed = &host
			left[n] -= vols[i].Bytes()
			if c.together {
				c.open, left = c.open[n:n+1], left[n:n+1]
			}
		}
	}
}

// roomiest is which of the nodes that take the volume has most left, -1 if none does. Of equal ones
// the volume's id chooses.
func roomiest(nodes []model.Node, left []int64, v *model.Volume, reserved int) int {
	best := -1
	for i := range nodes {
		n := (i + int(v.ID[15])) % len(nodes)
		if nodes[n].Frozen || full(&nodes[n], v, reserved) != "" {
			continue
		}
		if best < 0 || left[n] > left[best] {
			best = n
		}
	}
	return best
}

// mostRoom is the roomiest by what pools have free, nil if none takes the volume.
func mostRoom(nodes []model.Node, v *model.Volume, reserved int) *model.Node {
	left := make([]int64, len(nodes))
	for i := range nodes {
		left[i] = nodes[i].PoolFree
	}
	if n := roomiest(nodes, left, v, reserved); n >= 0 {
		return &nodes[n]
	}
	return nil
}

// full says why a node's pool takes no new volume, "" if it does.
func full(n *model.Node, v *model.Volume, reserved int) string {
	switch {
	case n.PoolState != "rw":
		return fmt.Sprintf("the pool of node %s is %s", n.Host, n.PoolState)
	case n.PoolFree*100 < n.PoolTotal*int64(reserved):
		return fmt.Sprintf("the pool of node %s is full: %d of %d MiB free, %d %% are reserved", n.Host, n.PoolFree>>20, n.PoolTotal>>20, reserved)
	case v.ImageID == nil && v.Bytes() > n.PoolTotal:
		return fmt.Sprintf("the pool of node %s has %d MiB, volume %s wants %d", n.Host, n.PoolTotal>>20, v.ID, v.Bytes()>>20)
	}
	return ""
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
