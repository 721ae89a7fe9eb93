package keystone

import (
	"container/list"
	"sync"
	"time"
)

// answer is what Keystone said about a token; nil identity: not valid.
type answer struct {
	key     [32]byte
	id      *Identity
	expires time.Time
}

// lru is a cache of bounded size. Safe for concurrent use.
type lru struct {
	mu   sync.Mutex
	size int
	byK  map[[32]byte]*list.Element
	list *list.List // front = used last
}

func newLRU(size int) *lru {
	return &lru{size: size, byK: make(map[[32]byte]*list.Element), list: list.New()}
}

func (c *lru) get(key [32]byte, now time.Time) (answer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byK[key]
	if !ok {
		return answer{}, false
	}
	a, _ := e.Value.(answer)
	if !now.Before(a.expires) {
		c.drop(e)
		return answer{}, false
	}
	c.list.MoveToFront(e)
	return a, true
}

func (c *lru) put(a answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byK[a.key]; ok {
		e.Value = a
		c.list.MoveToFront(e)
		return
	}
	c.byK[a.key] = c.list.PushFront(a)
	for c.list.Len() > c.size {
		c.drop(c.list.Back())
	}
}

func (c *lru) drop(e *list.Element) {
	if a, ok := e.Value.(answer); ok {
		delete(c.byK, a.key)
	}
	c.list.Remove(e)
}
