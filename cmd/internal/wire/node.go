package wire

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/vmthunder/vmthunder/cmd/internal/config"
	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver"
	"github.com/vmthunder/vmthunder/driver/agent"
	"github.com/vmthunder/vmthunder/driver/cache"
	"github.com/vmthunder/vmthunder/driver/cache/bcache"
	"github.com/vmthunder/vmthunder/driver/cache/dmcache"
	"github.com/vmthunder/vmthunder/driver/cache/flashcache"
	"github.com/vmthunder/vmthunder/driver/cache/none"
	"github.com/vmthunder/vmthunder/driver/command"
	"github.com/vmthunder/vmthunder/driver/dm"
	"github.com/vmthunder/vmthunder/driver/image"
	"github.com/vmthunder/vmthunder/driver/initiator"
	"github.com/vmthunder/vmthunder/driver/loop"
	"github.com/vmthunder/vmthunder/driver/mover"
	"github.com/vmthunder/vmthunder/driver/pool"
	"github.com/vmthunder/vmthunder/driver/stack"
	"github.com/vmthunder/vmthunder/driver/target"
)

// Node runs the agent of this host until ctx ends.
func Node(ctx context.Context, c *config.Config, log *logrus.Entry) error {
	if err := Identity(c); err != nil {
		return err
	}
	if c.Node.TargetIP == "" {
		return configError("this host has no address that others could reach; set [DEFAULT] my_ip")
	}
	log = log.WithField("node", c.Host)
	bus, err := OpenBus(c, log)
	if err != nil {
		return err
	}
	defer func() { _ = bus.Close() }()
	d, reason, err := drivers(ctx, c, log)
	if err != nil {
		return err
	}
	loops, few, err := pageLoops(ctx, d.DM)
	if err != nil {
		return err
	}
	reason += few
	a := agent.New(agent.Config{
		Host: c.Host, Address: net.JoinHostPort(c.Node.TargetIP, strconv.Itoa(c.Node.TargetPort)),
		AvailabilityZone: c.AvailabilityZone, Rack: c.Node.Rack, Backend: c.BackendName, Origin: c.Node.Origin, Compute: c.Node.Compute,
		Version: Version, BootID: bootID(), CacheReason: reason,
		ReportInterval: c.Node.ReportInterval, WatchInterval: c.Node.WatchInterval,
		ReadAheadSectors: uint64(c.Node.ReadAheadKiB) * 2, PageLoops: loops,
	}, d, control{bus}, log)
	log.WithField("cache", d.Cache.Name()).WithField("target", d.Target.Name()).Info("agent starts: " + reason)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.Run(ctx) })
	g.Go(func() error { return serveNode(ctx, bus, c.Host, a) })
	return g.Wait()
}

// pageLoops is how many loop devices the page layer is to have, and why it is few if so.
func pageLoops(ctx context.Context, m driver.DeviceMapper) (n int, why string, err error) {
	ok, err := m.HasTarget(ctx, "switch")
	if err != nil {
		return 0, "", fmt.Errorf("device-mapper: %w", err)
	}
	if !ok {
		return 1, "; the kernel has no dm-switch, so cold reads of an image wait for one another", nil
	}
	return stack.PageLoops, "", nil
}

// drivers makes the kernel facilities that the configuration asks for.
func drivers(ctx context.Context, c *config.Config, log *logrus.Entry) (agent.Drivers, string, error) {
	run := command.Traced{Runner: command.Exec{}, Ended: func(c command.Cmd, took time.Duration, err error) {
		log.WithFields(logrus.Fields{"command": c.String(), "took": took, "failed": err != nil}).Debug("executed")
	}}
	mapper := dm.New(run)
	loops := loop.New(run)
	d := agent.Drivers{
		DM: mapper, Loop: loops,
		Initiator: initiator.New(run, initiator.Options{ReplacementTimeout: time.Duration(c.Node.ReplacementTimeout) * time.Second}),
		ReadBytes: func(path string) (int64, error) {
			st, err := dm.Stat(path)
			return int64(st.ReadSectors) * 512, err
		},
		Size: dm.SizeOf,
		Number: func(path string) (string, error) {
			n, err := dm.Number(path)
			return n.String(), err
		},
	}
	if c.Node.PoolDevice != "" {
		d.Pool = pool.New(pool.Config{Device: c.Node.PoolDevice}, mapper, loops, run)
	} else if c.Node.Compute {
		return d, "", configError("[node] pool_device is not set: name a blank disk for volumes, or set compute = false")
	}
	candidates := []cache.Driver{
		dmcache.New(dmcache.Config{DM: mapper}), flashcache.New(flashcache.Config{DM: mapper}), none.Cache{},
	}
	if c.Node.CacheDevice != "" || c.Node.CacheDriver == bcache.Name {
		candidates = append(candidates, bcache.New(bcache.Config{Device: c.Node.CacheDevice, DM: mapper, Loop: loops, Runner: run, ReadAhead: 0}))
	}
	var reason string
	var err error
	if d.Cache, reason, err = cache.Choose(ctx, c.Node.CacheDriver, candidates...); err != nil {
		return d, "", fmt.Errorf("[node] %w", err)
	}
	var why string
	if d.Target, why, err = target.Choose(ctx, c.Node.TargetHelper, target.Options{}); err != nil {
		return d, "", fmt.Errorf("[node] %w", err)
	}
	log.WithField("target", d.Target.Name()).Info("target helper: " + why)
	transport, err := httpTransport(c)
	if err != nil {
		return d, "", err
	}
	glance := image.NewGlance(image.GlanceConfig{
		AuthURL: c.Keystone.AuthURL, Username: c.Keystone.Username, Password: c.Keystone.Password,
		ProjectName: c.Keystone.Project, UserDomainName: c.Keystone.UserDomain, ProjectDomainName: c.Keystone.ProjectDomain,
		RegionName: c.Keystone.Region, Interface: c.Keystone.Interface, Endpoint: c.GlanceAPI,
		HTTP: &http.Client{Transport: transport}, // an image takes as long as it takes
	})
	d.Tasks = map[model.TaskKind]driver.TaskWorker{
		model.TaskUploadImage: image.NewUploader(image.UploadOptions{Dir: filepath.Join(c.Node.ImageDir, "upload"), Sink: glance, Runner: run}),
		model.TaskMigrate:     mover.New(d.Initiator),
		model.TaskServe:       mover.Server{},
	}
	if err := addBackups(&d, c.Backup); err != nil {
		return d, "", err
	}
	if c.Node.Origin {
		store, err := image.Open(image.Options{
			Dir: c.Node.ImageDir, FileStoreDir: c.Node.GlanceStoreDir, Runner: run,
			Source: glance,
		})
		if err != nil {
			return d, "", err
		}
		d.Images = store
	}
	return d, reason, nil
}

var _ driver.DeviceMapper = (*dm.Mapper)(nil)
