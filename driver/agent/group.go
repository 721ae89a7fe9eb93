package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/stack"
)

// work is what a document says of one group.
type work struct {
	image   *model.DesiredImage
	volumes []model.DesiredVolume
	pool    string // UUID of the pool that they are in; "" is any
}

// group is an image with its volumes, or one blank volume, and the worker that
// brings them to what the document says.
type group struct {
	a      *Agent
	key    string
	log    *logrus.Entry
	cancel context.CancelFunc
	wake   chan struct{}
	after  <-chan struct{} // nil, or closed when the worker before this one has ended
	ended  chan struct{}

	mu       sync.Mutex
	work     work
	version  int                // of work; grows with every set
	stop     context.CancelFunc // of the pass in progress
	dialing  context.CancelFunc // of the login in progress
	beside   bool               // the image can be read while the login goes on
	settled  bool
	imageErr error
	volErr   map[string]error
	volDone  map[string]int // version at which a volume was found to be as it should, or to be hopeless
	progress driver.ImageProgress
	fresh    bool // the cache's local devices were made just now
}

const maxRounds = 24 // of look, plan, do in one pass; more means that steps have no effect

func (a *Agent) newGroup(key string) *group {
	ctx, cancel := context.WithCancel(a.run)
	g := &group{
		a: a, key: key, log: a.log.WithField("group", key), cancel: cancel,
		wake: make(chan struct{}, 1), volErr: map[string]error{}, volDone: map[string]int{},
		after: a.leaving[key], ended: make(chan struct{}),
	}
	delete(a.leaving, key)
	a.workers.Go(func() { g.loop(ctx) })
	return g
}

// set gives the group its part of a new document. A pass that does what is not wanted
// any more (an import of an image that has gone, say) is cut short.
func (g *group) set(w work) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.version > 0 && reflect.DeepEqual(g.work, w) {
		return // nothing new for this group; what it waits for it goes on trying
	}
	if was := g.work.image; was != nil && w.image != nil {
		if g.stop != nil && was.State != w.image.State {
			g.stop()
		}
		urgent := g.beside && !reflect.DeepEqual(g.work.volumes, w.volumes)
		if g.dialing != nil && (urgent || !reflect.DeepEqual(was.Parent, w.image.Parent)) {
			g.dialing() // neither a new parent nor a new volume need wait until its time is over
		}
	}
	g.forget(w)
	g.work = w
	g.version++
	g.settled = false
	g.poke()
}

// forget drops the errors of what w asks for otherwise than before, so that no report on
// the new document tells of a failure under the old one.
func (g *group) forget(w work) {
	same := g.work.pool == w.pool && sameImage(g.work.image, w.image)
	if !same {
		g.imageErr = nil
	}
	if g.work.image == nil || w.image == nil || g.work.image.State != w.image.State {
		g.progress = driver.ImageProgress{}
	}
	volErr := map[string]error{}
	for _, v := range w.volumes {
		i := slices.IndexFunc(g.work.volumes, func(was model.DesiredVolume) bool { return was.ID == v.ID })
		if e := g.volErr[v.ID]; e != nil && same && i >= 0 && reflect.DeepEqual(g.work.volumes[i], v) {
			volErr[v.ID] = e
		}
	}
	g.volErr = volErr
	maps.DeleteFunc(g.volDone, func(id string, _ int) bool {
		return !slices.ContainsFunc(w.volumes, func(v model.DesiredVolume) bool { return v.ID == id })
	})
}

// sameImage tells whether two documents ask the same of an image, besides whom it is exported to.
func sameImage(a, b *model.DesiredImage) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, y := *a, *b
	x.Children, y.Children, x.CacheMade, y.CacheMade = nil, nil, false, false
	return reflect.DeepEqual(x, y)
}

func (g *group) poke() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// done tells whether a volume is as the newest document wants it, or can't be.
func (g *group) done(volumeID string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	v, ok := g.volDone[volumeID]
	return ok && v == g.version
}

func (g *group) loop(ctx context.Context) {
	defer close(g.ended)
	if g.after != nil {
		// Two workers must never be at the same devices; the one before was told to stop.
		<-g.after
	}
	select {
	case <-ctx.Done():
		return
	case <-g.a.opened:
	}
	var tries patience
	timer := time.NewTimer(g.a.cfg.ResyncInterval) // the first pass is woken by set
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.wake:
			tries = patience{}
		case <-timer.C:
		}
		next := g.a.cfg.ResyncInterval
		if err := g.pass(ctx); err != nil && ctx.Err() == nil {
			next = tries.next(err)
		}
		timer.Reset(next)
	}
}

// pass brings the group to what its document says, as far as it gets, and returns why it is
// worth while to try again soon, nil if it is not.
func (g *group) pass(ctx context.Context) (again error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	g.mu.Lock()
	w, version, wasSettled := g.work, g.version, g.settled
	g.stop = stop
	g.mu.Unlock()

	var down, up []model.DesiredVolume
	for _, v := range w.volumes {
		if v.State == model.Present {
			up = append(up, v)
		} else {
			down = append(down, v)
		}
	}
	volErr := map[string]error{}
	seen := &sight{a: g.a, image: imageIn(w)}
	moved := g.volumes(ctx, w.pool, version, down, seen, volErr)
	var imageErr error
	if w.image != nil {
		var did bool
		built := len(up) == 0
		did, imageErr = g.image(ctx, *w.image, w.pool, seen, func() {
			// Volumes are built as soon as the image can be read, before what nobody waits for.
			if !built {
				built = true
				moved = g.volumes(ctx, w.pool, version, up, seen, volErr) || moved
			}
		})
		moved = moved || did
		moved = g.imageIs(version, imageErr) || moved // before its volumes say that it is the cause
		if !built {
			moved = g.held(version, up, imageErr, volErr) || moved
		}
	} else {
		moved = g.volumes(ctx, w.pool, version, up, seen, volErr) || moved
	}

	settled := imageErr == nil && len(volErr) == 0
	for _, e := range volErr {
		if worth(e) {
			again = e
		}
	}
	if worth(imageErr) {
		again = imageErr // the cause of all others
	}
	g.mu.Lock()
	g.stop = nil
	if g.version != version || ctx.Err() != nil {
		// These are answers to the document before; the next pass comes at once, if any.
		g.mu.Unlock()
		if moved {
			g.a.announce(true)
		}
		return again
	}
	news := moved || settled != wasSettled
	g.settled = settled
	g.mu.Unlock()
	if news {
		g.a.announce(true)
	}
	return again
}

// sight is what a pass has seen of the node. A plan for a volume speaks of nothing but the
// volume's own things, and one for an image of nothing but the image's, so what was done for
// volumes does not make it old; what was done for the image does.
type sight struct {
	a      *Agent
	image  string // "" of a blank volume
	actual *stack.Actual
}

func (s *sight) look(ctx context.Context) (stack.Actual, error) {
	if s.actual != nil {
		return *s.actual, nil
	}
	actual, err := s.a.look(ctx, s.image)
	if err == nil {
		s.actual = &actual
	}
	return actual, err
}

func (s *sight) forget() { s.actual = nil }

// imageIn is the id of the image that a group's work is about, "" for a blank volume.
func imageIn(w work) string {
	if w.image != nil {
		return w.image.ID
	}
	for _, v := range w.volumes {
		return v.ImageID
	}
	return ""
}

// held says of volumes that could not be begun because of their image why that is.
func (g *group) held(version int, vs []model.DesiredVolume, imageErr error, errs map[string]error) (news bool) {
	if imageErr == nil {
		imageErr = errors.New("it is to be removed, or there is nowhere to read it from")
	}
	for _, v := range vs {
		errs[v.ID] = fmt.Errorf("its image can't be read here yet: %w", imageErr)
		news = g.volumeIs(v.ID, version, errs[v.ID]) || news
	}
	return news
}

// image looks, plans and does until nothing is left to do for the image. ready is
// called in every round in which its page layer stands.
func (g *group) image(ctx context.Context, d model.DesiredImage, pool string, seen *sight, ready func()) (moved bool, err error) {
	last := ""
	for range maxRounds {
		if err := ctx.Err(); err != nil {
			return moved, err
		}
		actual, err := seen.look(ctx)
		if err != nil {
			return moved, err
		}
		if _, ok := actual.Pages[d.ID]; ok && d.State == model.Present {
			ready()
		}
		steps := g.a.host.Image(d, actual)
		if len(steps) == 0 {
			return moved, g.waits(d, actual)
		}
		s := fmt.Sprint(steps)
		if s == last {
			return moved, fmt.Errorf("%s was done but has not changed what stands", steps[0])
		}
		last = s
		_, reads := actual.Parent(d.ID)
		g.setBeside(reads)
		seen.forget()
		for _, s := range steps {
			if err := g.execute(ctx, s, pool); err != nil {
				return moved, fmt.Errorf("%s: %w", s, err)
			}
			moved = true
			if s.Barrier() {
				break
			}
		}
	}
	return moved, fmt.Errorf("image %s does not come to rest after %d rounds", d.ID, maxRounds)
}

// waits says what an image that has no steps left waits for, if anything.
func (g *group) waits(d model.DesiredImage, a stack.Actual) error {
	if d.State == model.Absent {
		return nil
	}
	if _, ok := a.Pages[d.ID]; !ok && d.Role == model.RoleRelay {
		return errors.New("the image's origin has not imported it yet")
	}
	return nil
}

// imageIs records how the image is, and returns whether there are news.
func (g *group) imageIs(version int, err error) (news bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.version != version || errors.Is(err, context.Canceled) {
		return false // it is no answer to what is asked now
	}
	if news = text(err) != text(g.imageErr); news && err != nil {
		g.log.WithError(err).Warn("image is not as it should be yet")
	}
	g.imageErr = err
	return news
}

// volumes plans and does for each volume; the failure of one does not hold up the others.
func (g *group) volumes(ctx context.Context, pool string, version int, vs []model.DesiredVolume, seen *sight, errs map[string]error) (moved bool) {
	if len(vs) == 0 {
		return false
	}
	actual, err := seen.look(ctx)
	for _, v := range vs {
		e := err
		if e == nil && v.ThinID != 0 {
			e = g.a.checkPool(pool)
		}
		if e == nil {
			var did bool
			did, e = g.volume(ctx, v, pool, actual)
			moved = moved || did
		}
		if e != nil {
			errs[v.ID] = e
		}
		moved = g.volumeIs(v.ID, version, e) || moved
	}
	return moved
}

// volumeIs records how a volume is and tells those who wait for it. The rest of the pass may take
// long, so what they then see must not be what was before. It returns whether there are news.
func (g *group) volumeIs(id string, version int, err error) (news bool) {
	g.mu.Lock()
	if g.version != version || errors.Is(err, context.Canceled) {
		g.mu.Unlock()
		return false // it is no answer to what is asked now
	}
	if text(err) != text(g.volErr[id]) {
		news = true
		if err != nil {
			g.log.WithError(err).WithField("volume", id).Warn("volume is not as it should be yet")
		}
	}
	if delete(g.volErr, id); err != nil {
		g.volErr[id] = err
	}
	done := err == nil || hopeless(err)
	if done {
		g.volDone[id] = version
	}
	g.mu.Unlock()
	if done || news {
		g.a.announce(news)
	}
	return news
}

func (g *group) volume(ctx context.Context, v model.DesiredVolume, pool string, actual stack.Actual) (moved bool, err error) {
	steps := g.a.host.Volume(v, actual)
	if v.State == model.Present && v.ImageID != "" {
		if _, ok := actual.Pages[v.ImageID]; !ok {
			return false, errors.New("its image can't be read here yet")
		}
	}
	for _, s := range steps {
		if err := g.execute(ctx, s, pool); err != nil {
			if s.Op == stack.OpActivate && v.Materialized && errors.Is(err, driver.ErrNotFound) {
				return moved, fmt.Errorf("%w: its thin device %d is gone from the pool", errLost, v.ThinID)
			}
			return moved, fmt.Errorf("%s: %w", s, err)
		}
		moved = true
	}
	return moved, nil
}
