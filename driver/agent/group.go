package agent

import (
	"context"
	"errors"
	"fmt"
	"reflect"
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
}

// group is an image with its volumes, or one blank volume, and the worker that
// brings them to what the document says.
type group struct {
	a      *Agent
	key    string
	log    *logrus.Entry
	cancel context.CancelFunc
	wake   chan struct{}

	mu       sync.Mutex
	work     work
	version  int                // of work; grows with every set
	stop     context.CancelFunc // of the pass in progress
	settled  bool
	imageErr error
	volErr   map[string]error
	volDone  map[string]int // version at which a volume was found to be as it should, or to be hopeless
	progress driver.ImageProgress
	fresh    bool // the cache's local devices were made just now
}

const (
	firstRetry = 200 * time.Millisecond
	lastRetry  = 10 * time.Second
	maxRounds  = 24 // of look, plan, do in one pass; more means that steps have no effect
)

func (a *Agent) newGroup(key string) *group {
	ctx, cancel := context.WithCancel(a.run)
	g := &group{
		a: a, key: key, log: a.log.WithField("group", key), cancel: cancel,
		wake: make(chan struct{}, 1), volErr: map[string]error{}, volDone: map[string]int{},
	}
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
	if g.stop != nil && g.work.image != nil && w.image != nil && g.work.image.State != w.image.State {
		g.stop()
	}
	g.work = w
	g.version++
	g.settled = false
	g.poke()
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
	retry := firstRetry
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.wake:
			retry = firstRetry
		case <-timer.C:
		}
		next := g.a.cfg.ResyncInterval
		if err := g.pass(ctx); err != nil && ctx.Err() == nil {
			next = retry
			retry = min(retry+retry/2, lastRetry)
		}
		timer.Reset(next)
	}
}

// pass brings the group to what its document says, as far as it gets.
func (g *group) pass(ctx context.Context) error {
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
	moved := g.volumes(ctx, version, down, volErr)
	var imageErr error
	if w.image != nil {
		var did bool
		did, imageErr = g.image(ctx, *w.image, len(up) > 0, func() {
			// Volumes are built as soon as the image can be read, before what nobody waits for.
			moved = g.volumes(ctx, version, up, volErr) || moved
		})
		moved = moved || did
	} else {
		moved = g.volumes(ctx, version, up, volErr) || moved
	}

	err := imageErr
	for id, e := range volErr {
		err = errors.Join(err, fmt.Errorf("volume %s: %w", id, e))
	}
	g.mu.Lock()
	g.stop = nil
	news := moved || (err == nil) != wasSettled || text(g.imageErr) != text(imageErr)
	if text(imageErr) != text(g.imageErr) && imageErr != nil {
		g.log.WithError(imageErr).Warn("image is not as it should be yet")
	}
	for id, e := range volErr {
		if text(e) != text(g.volErr[id]) {
			g.log.WithError(e).WithField("volume", id).Warn("volume is not as it should be yet")
		}
	}
	g.imageErr, g.volErr = imageErr, volErr
	if g.version == version {
		g.settled = err == nil
	}
	g.mu.Unlock()
	if news {
		g.a.announce(true)
	}
	return err
}

// image looks, plans and does until nothing is left to do for the image. ready is
// called once, when its page layer stands.
func (g *group) image(ctx context.Context, d model.DesiredImage, volumes bool, ready func()) (moved bool, err error) {
	called := false
	last := ""
	for range maxRounds {
		if err := ctx.Err(); err != nil {
			return moved, err
		}
		actual, err := g.a.look(ctx, d.ID)
		if err != nil {
			return moved, err
		}
		if _, ok := actual.Pages[d.ID]; ok && volumes && !called && d.State == model.Present {
			called = true
			ready()
		}
		steps := g.a.host.Image(d, actual)
		if len(steps) == 0 {
			return moved, g.waits(d, actual)
		}
		if s := fmt.Sprint(steps); s == last {
			return moved, fmt.Errorf("%s was done but has not changed what stands", steps[0])
		} else {
			last = s
		}
		for _, s := range steps {
			if err := g.execute(ctx, s); err != nil {
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

// volumes plans and does for each volume; the failure of one does not hold up the others.
func (g *group) volumes(ctx context.Context, version int, vs []model.DesiredVolume, errs map[string]error) (moved bool) {
	if len(vs) == 0 {
		return false
	}
	image := vs[0].ImageID
	actual, err := g.a.look(ctx, image)
	for _, v := range vs {
		e := err
		if e == nil {
			e = g.a.checkPool(v)
		}
		if e == nil {
			var did bool
			did, e = g.volume(ctx, v, actual)
			moved = moved || did
		}
		if e != nil {
			errs[v.ID] = e
		}
		if e == nil || hopeless(e) {
			g.mu.Lock()
			g.volDone[v.ID] = version
			g.mu.Unlock()
			g.a.announce(false)
		}
	}
	return moved
}

func (g *group) volume(ctx context.Context, v model.DesiredVolume, actual stack.Actual) (moved bool, err error) {
	steps := g.a.host.Volume(v, actual)
	if v.State == model.Present && v.ImageID != "" {
		if _, ok := actual.Pages[v.ImageID]; !ok {
			return false, errors.New("its image can't be read here yet")
		}
	}
	for _, s := range steps {
		if err := g.execute(ctx, s); err != nil {
			if s.Op == stack.OpActivate && v.Materialized && errors.Is(err, driver.ErrNotFound) {
				return moved, fmt.Errorf("%w: its thin device %d is gone from the pool", errLost, v.ThinID)
			}
			return moved, fmt.Errorf("%s: %w", s, err)
		}
		moved = true
	}
	return moved, nil
}

var (
	errLost      = errors.New("the volume's data is lost")
	errWrongPool = errors.New("this node's pool is not the one that holds the volume")
)

// hopeless tells errors that do not go away by trying again.
func hopeless(err error) bool {
	return errors.Is(err, errLost) || errors.Is(err, errWrongPool) || errors.Is(err, driver.ErrUnusable) ||
		errors.Is(err, driver.ErrNoSpace) || errors.Is(err, driver.ErrForeign)
}

// checkPool keeps a volume from being built in a pool that is not its own: a disk that
// was exchanged must not look like a volume full of zeros.
func (a *Agent) checkPool(v model.DesiredVolume) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.d.Pool == nil:
		return fmt.Errorf("%w: no pool_device is configured here", errWrongPool)
	case a.poolErr != nil:
		return fmt.Errorf("%w: %w", errWrongPool, a.poolErr)
	case v.Materialized && a.doc.PoolUUID != "" && a.doc.PoolUUID != a.poolUUID:
		return fmt.Errorf("%w: it is in pool %s, here is %s; was the disk exchanged?", errWrongPool, a.doc.PoolUUID, a.poolUUID)
	}
	return nil
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
