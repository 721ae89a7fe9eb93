package glance

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/singleflight"

	"github.com/vmthunder/vmthunder/api/keystone"
	v3 "github.com/vmthunder/vmthunder/api/v3"
	"github.com/vmthunder/vmthunder/db/model"
)

// KeepFor is how long an answer of the image service is used again: long enough for one
// question to do for a burst of volumes, and no longer than anybody would notice that an
// image was deactivated, deleted or no longer shared.
const KeepFor = 3 * time.Second

// keepMost is the most answers that are kept.
const keepMost = 1000

// Cache asks the image service once for many volumes. What it remembers of an image it
// tells only to who may see it: the same user in the same project with the same roles,
// which is all that the image service's policy knows of a caller. It keeps neither
// refusals nor what was asked for by name, which may mean another image next time. Safe
// for concurrent use.
type Cache struct {
	next   v3.Glance
	now    func() time.Time
	flight singleflight.Group

	mu    sync.Mutex
	known map[caller]answer
}

var _ v3.Glance = (*Cache)(nil)

// caller is who asks for what.
type caller struct{ user, project, roles, ref string }

type answer struct {
	image model.Image
	until time.Time
}

// NewCache remembers the answers of next for [KeepFor]; now is the clock.
func NewCache(next v3.Glance, now func() time.Time) *Cache {
	return &Cache{next: next, now: now, known: map[caller]answer{}}
}

// Image implements v3.Glance.
func (c *Cache) Image(ctx context.Context, who keystone.Identity, ref string) (model.Image, error) {
	if _, err := uuid.Parse(ref); err != nil || who.UserID == "" || who.ProjectID == "" {
		return c.next.Image(ctx, who, ref)
	}
	key := caller{user: who.UserID, project: who.ProjectID, roles: strings.Join(slices.Sorted(slices.Values(who.Roles)), ","), ref: ref}
	if img, ok := c.get(key); ok {
		return img, nil
	}
	// The answer is for all who wait, so it must not die with the first one's request.
	ch := c.flight.DoChan(strings.Join([]string{key.user, key.project, key.roles, key.ref}, "\x00"), func() (any, error) {
		asked := c.now()
		img, err := c.next.Image(context.WithoutCancel(ctx), who, ref)
		if err == nil {
			c.put(key, answer{img, asked.Add(KeepFor)})
		}
		return img, err
	})
	select {
	case <-ctx.Done():
		return model.Image{}, ctx.Err()
	case r := <-ch:
		img, _ := r.Val.(model.Image)
		return own(img), r.Err
	}
}

// Create implements v3.Glance.
func (c *Cache) Create(ctx context.Context, who keystone.Identity, image v3.NewImage) (v3.NewImage, error) {
	return c.next.Create(ctx, who, image)
}

func (c *Cache) get(key caller) (model.Image, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, ok := c.known[key]
	if !ok || !c.now().Before(a.until) {
		return model.Image{}, false
	}
	return own(a.image), true
}

func (c *Cache) put(key caller, a answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) >= keepMost {
		now := c.now()
		maps.DeleteFunc(c.known, func(_ caller, a answer) bool { return !now.Before(a.until) })
		if len(c.known) >= keepMost {
			clear(c.known)
		}
	}
	c.known[key] = a
}

// own gives the caller properties of its own to change.
func own(img model.Image) model.Image {
	img.Properties = maps.Clone(img.Properties)
	return img
}
