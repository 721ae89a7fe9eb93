package scheduler

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/db/model"
)

const (
	// togetherMost is the most volumes that requests make together; a request for more
	// goes by itself.
	togetherMost = 200
	// togetherTime bounds it: it must not end with the request of one of them.
	togetherTime = time.Minute
)

// together makes volumes that are asked for at the same time in one transaction. Those of
// one project come one after the other anyway, since each must see what the one before
// has left of the quotas, and each would wait for the commit of all before it. So
// whoever comes while some are being made waits for these only, and is made with all
// others that do. A request that comes alone does not wait. Safe for concurrent use.
type together struct {
	create func(ctx context.Context, vols []model.Volume, image *model.Image) ([]model.Volume, error)

	mu    sync.Mutex
	lines map[lineKey][]*request // an entry, if an empty one, while somebody serves it
}

// lineKey says which requests go together: those of one project from one image.
type lineKey struct {
	project string
	image   uuid.UUID // zero: blank volumes
}

// request waits in a line. made, err and alone are the caller's once done is closed.
type request struct {
	ctx   context.Context //nolint:containedctx // the caller's; it waits
	vols  []model.Volume
	image *model.Image
	made  []model.Volume
	err   error
	alone bool // could not be made with the others, be it for them or for itself
	done  chan struct{}
}

// Create makes all volumes of a request, which are of one project, or none, as the
// store's CreateVolumes does.
func (t *together) Create(ctx context.Context, vols []model.Volume, image *model.Image) ([]model.Volume, error) {
	if len(vols) == 0 || len(vols) > togetherMost {
		return t.create(ctx, vols, image)
	}
	key := lineKey{project: vols[0].ProjectID}
	if image != nil {
		key.image = image.ID
	}
	r := &request{ctx: ctx, vols: vols, image: image, done: make(chan struct{})}
	t.mu.Lock()
	if t.lines == nil {
		t.lines = map[lineKey][]*request{}
	}
	line, served := t.lines[key]
	t.lines[key] = append(line, r)
	t.mu.Unlock()
	if !served {
		go t.serve(key)
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if r.alone {
		return t.create(ctx, vols, image)
	}
	return r.made, r.err
}

// serve makes what waits in a line until nothing does.
func (t *together) serve(key lineKey) {
	for {
		t.mu.Lock()
		line := t.lines[key]
		if len(line) == 0 {
			delete(t.lines, key)
			t.mu.Unlock()
			return
		}
		n, vols := 0, 0
		for n < len(line) && vols+len(line[n].vols) <= togetherMost {
			vols += len(line[n].vols)
			n++
		}
		now := line[:n:n]
		t.lines[key] = line[n:]
		t.mu.Unlock()
		t.makeAll(now)
	}
}

// makeAll makes the volumes of some requests and tells them.
func (t *together) makeAll(rs []*request) {
	defer func() {
		for _, r := range rs {
			close(r.done)
		}
	}()
	var vols []model.Volume
	wanted := slices.DeleteFunc(slices.Clone(rs), func(r *request) bool { return r.ctx.Err() != nil })
	for _, r := range wanted {
		vols = append(vols, r.vols...)
	}
	if len(vols) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(wanted[0].ctx), togetherTime)
	defer cancel()
	made, err := t.create(ctx, vols, wanted[0].image)
	for _, r := range wanted {
		switch {
		case err == nil:
			r.made, made = made[:len(r.vols):len(r.vols)], made[len(r.vols):]
		case len(wanted) > 1 && !errors.Is(err, model.ErrUnavailable):
			r.alone = true // the fault is somebody's, and each is to hear of its own
		default:
			r.err = err
		}
	}
}
