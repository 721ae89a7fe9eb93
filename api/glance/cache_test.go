package glance_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/glance"
	"github.com/vmthunder/vmthunder/api/keystone"
	v3 "github.com/vmthunder/vmthunder/api/v3"
	"github.com/vmthunder/vmthunder/db/model"
)

// service is an image service that counts what it is asked.
type service struct {
	mu     sync.Mutex
	asked  int
	answer func(ctx context.Context, who keystone.Identity, ref string) (model.Image, error)
}

func (s *service) Image(ctx context.Context, who keystone.Identity, ref string) (model.Image, error) {
	s.mu.Lock()
	s.asked++
	s.mu.Unlock()
	return s.answer(ctx, who, ref)
}

func (s *service) Create(_ context.Context, _ keystone.Identity, image v3.NewImage) (v3.NewImage, error) {
	return image, nil
}

func found(_ context.Context, _ keystone.Identity, ref string) (model.Image, error) {
	id, _ := uuid.Parse(ref)
	return model.Image{ID: id, Name: ref, Properties: model.StringMap{"os": "linux"}}, nil
}

var alice = keystone.Identity{UserID: "alice", ProjectID: "p1", Roles: []string{"member", "reader"}, Token: "t1"}

func TestCacheAsksOnce(t *testing.T) {
	now := time.Unix(1000, 0)
	s := &service{answer: found}
	c := glance.NewCache(s, func() time.Time { return now })
	ask := func(who keystone.Identity, ref string, want int) model.Image {
		t.Helper()
		img, err := c.Image(t.Context(), who, ref)
		if err != nil {
			t.Fatal(err)
		}
		if s.asked != want {
			t.Fatalf("the service was asked %d times, want %d", s.asked, want)
		}
		return img
	}
	first := ask(alice, imageID, 1)
	first.Properties["os"] = "changed"
	newToken := alice
	newToken.Token, newToken.Roles = "t2", []string{"reader", "member"}
	if img := ask(newToken, imageID, 1); img.Name != imageID || img.Properties["os"] != "linux" {
		t.Errorf("image %+v", img)
	}

	// Nobody else is told what the service told alice.
	n := 1
	for _, edit := range []func(*keystone.Identity){
		func(i *keystone.Identity) { i.ProjectID = "p2" },
		func(i *keystone.Identity) { i.UserID = "bob" },
		func(i *keystone.Identity) { i.Roles = []string{"member"} },
		func(i *keystone.Identity) { i.Roles = []string{"member", "reader", "admin"} },
	} {
		other := alice
		edit(&other)
		n++
		ask(other, imageID, n)
	}
	unscoped := alice
	unscoped.ProjectID = ""
	ask(unscoped, imageID, n+1)
	ask(unscoped, imageID, n+2)
	ask(alice, "by name", n+3)
	ask(alice, "by name", n+4)
	ask(alice, uuid.NewString(), n+5)

	now = now.Add(glance.KeepFor - 1)
	ask(alice, imageID, n+5)
	now = now.Add(1)
	ask(alice, imageID, n+6)
}

// What the service refuses is asked again, and what it no longer shows is gone in time.
func TestCacheKeepsNoRefusal(t *testing.T) {
	now := time.Unix(1000, 0)
	refuse := func(context.Context, keystone.Identity, string) (model.Image, error) {
		return model.Image{}, fmt.Errorf("image: %w", model.ErrNotFound)
	}
	s := &service{answer: refuse}
	c := glance.NewCache(s, func() time.Time { return now })
	for range 2 {
		if _, err := c.Image(t.Context(), alice, imageID); !errors.Is(err, model.ErrNotFound) {
			t.Errorf("got %v", err)
		}
	}
	s.answer = found
	if _, err := c.Image(t.Context(), alice, imageID); err != nil {
		t.Errorf("a refusal is remembered: %v", err)
	}
	s.answer = refuse
	now = now.Add(glance.KeepFor)
	if _, err := c.Image(t.Context(), alice, imageID); !errors.Is(err, model.ErrNotFound) {
		t.Errorf("an image that is gone is still found: %v", err)
	}
}

// Many who ask at once are one question, which outlives the one who asked first.
func TestCacheJoinsQuestions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := &service{answer: func(ctx context.Context, who keystone.Identity, ref string) (model.Image, error) {
			select {
			case <-release:
				return found(ctx, who, ref)
			case <-ctx.Done():
				return model.Image{}, ctx.Err()
			}
		}}
		c := glance.NewCache(s, time.Now)
		impatient, leave := context.WithCancel(t.Context())
		gone := make(chan error, 1)
		go func() {
			_, err := c.Image(impatient, alice, imageID)
			gone <- err
		}()
		synctest.Wait()
		results := make(chan error, 5)
		for range 5 {
			go func() {
				_, err := c.Image(t.Context(), alice, imageID)
				results <- err
			}()
		}
		synctest.Wait()
		leave()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("the first got %v", err)
		}
		close(release)
		for range 5 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		if s.asked != 1 {
			t.Errorf("the service was asked %d times", s.asked)
		}
	})
}
