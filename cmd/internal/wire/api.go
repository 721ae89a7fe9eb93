package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/vmthunder/vmthunder/api"
	"github.com/vmthunder/vmthunder/api/glance"
	"github.com/vmthunder/vmthunder/api/keystone"
	"github.com/vmthunder/vmthunder/api/nova"
	"github.com/vmthunder/vmthunder/api/policy"
	v3 "github.com/vmthunder/vmthunder/api/v3"
	"github.com/vmthunder/vmthunder/cmd/internal/config"
	"github.com/vmthunder/vmthunder/db"
	"github.com/vmthunder/vmthunder/db/model"
	"github.com/vmthunder/vmthunder/driver/image"
	"github.com/vmthunder/vmthunder/scheduler"
)

// Binary is how this service is called in table services.
const Binary = "vmthunder-api"

// openDatabase connects to Postgres.
func openDatabase(ctx context.Context, c *config.Config) (*db.Store, error) {
	if c.Database == "" {
		return nil, configError("[database] connection is not set: postgresql://USER:PASSWORD@HOST/DATABASE")
	}
	store, err := db.Open(ctx, c.Database, db.Options{MaxOpen: c.DatabasePool, QuotaDefaults: map[string]int64{
		"volumes": int64(c.QuotaVolumes), "gigabytes": int64(c.QuotaGigabytes), "snapshots": int64(c.QuotaSnapshots),
		"backups": int64(c.QuotaBackups), "backup_gigabytes": int64(c.QuotaBackupGB), "groups": int64(c.QuotaGroups),
		"per_volume_gigabytes": int64(c.QuotaPerVolumeGB),
	}})
	if err != nil {
		return nil, fmt.Errorf("[database] connection: %w", err)
	}
	return store, nil
}

// Sync brings the database's schema to this version's.
func Sync(ctx context.Context, c *config.Config, w io.Writer) error {
	store, err := openDatabase(ctx, c)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	if err := store.Migrate(ctx); err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, "the schema is up to date")
	return err
}

// API runs a replica of the control plane until ctx ends.
func API(ctx context.Context, c *config.Config, log *logrus.Entry) error {
	if err := Identity(c); err != nil {
		return err
	}
	rules, err := Rules(c)
	if err != nil {
		return err
	}
	// The bus is connected to in the background: an error is one of the configuration.
	bus, err := OpenBus(c, log)
	if err != nil {
		return err
	}
	defer func() { _ = bus.Close() }()
	store, err := openDatabase(ctx, c)
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	if err := store.CheckVersion(ctx); err != nil {
		return err
	}
	switch _, err := store.TypeByName(ctx, c.DefaultType, ""); {
	case errors.Is(err, model.ErrNotFound):
		log.WithField("type", c.DefaultType).Warn("[DEFAULT] default_volume_type names a volume type that is not there: " +
			"no volume can be made without naming one until it is created")
	case err != nil:
		return fmt.Errorf("volume type %s: %w", c.DefaultType, err)
	}

	compute, err := novaClient(c)
	if err != nil {
		return err
	}
	options := scheduler.Options{
		Host: c.Host, Binary: Binary, Degree: c.TreeDegree, MaxImageBytes: int64(c.MaxImageGiB) << 30,
		NodeDown: c.NodeDown, OriginWait: c.OriginWait, Roots: c.ImageRoots, RootWait: c.RootWait, ImageIdle: c.ImageIdle, AttachTimeout: c.AttachTimeout,
		Backend: backend(c), Now: time.Now, NewSecret: newSecret,
	}
	if compute != nil {
		options.Instances = compute
	}
	if c.AuthStrategy == "keystone" {
		transport, err := httpTransport(c)
		if err != nil {
			return err
		}
		options.Images = image.NewGlance(image.GlanceConfig{
			AuthURL: c.Keystone.AuthURL, Username: c.Keystone.Username, Password: c.Keystone.Password,
			ProjectName: c.Keystone.Project, UserDomainName: c.Keystone.UserDomain, ProjectDomainName: c.Keystone.ProjectDomain,
			RegionName: c.Keystone.Region, Interface: c.Keystone.Interface, Endpoint: c.GlanceAPI,
			HTTP: &http.Client{Transport: transport, Timeout: 20 * time.Second},
		})
	}
	sched := scheduler.New(SchedulerStore(store), nodes{bus}, options, log)
	handler, err := restHandler(c, rules, store, sched, compute, log)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
	}
	address := net.JoinHostPort(c.Listen, strconv.Itoa(c.ListenPort))
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("[DEFAULT] osapi_volume_listen: %w", err)
	}
	log.WithField("address", address).WithField("auth", c.AuthStrategy).Info("control plane starts")

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		// Requests under way may finish; a new one goes to another replica.
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		return server.Shutdown(end)
	})
	g.Go(func() error { return serveProfiles(ctx, c.Profiler) })
	g.Go(func() error { return sched.Run(ctx) })
	g.Go(func() error { return serveControl(ctx, bus, c.Host, sched) })
	return g.Wait()
}

func restHandler(
	c *config.Config, rules *policy.Enforcer, store *db.Store, sched *scheduler.Service, compute *nova.Client, log *logrus.Entry,
) (http.Handler, error) {
	filters, err := Filters(c)
	if err != nil {
		return nil, err
	}
	transport, err := httpTransport(c)
	if err != nil {
		return nil, err
	}
	outward := &http.Client{Transport: transport, Timeout: 20 * time.Second}
	var auth keystone.Authenticator = keystone.NoAuth{}
	var projects v3.Projects // without Keystone any may exist
	catalog := func(context.Context) (string, error) {
		return "", fmt.Errorf("%w: with auth_strategy = noauth set glance_api_servers", model.ErrUnavailable)
	}
	if c.AuthStrategy == "keystone" {
		k := c.Keystone
		if k.AuthURL == "" || k.Username == "" {
			return nil, configError("[keystone_authtoken] auth_url, username and password are not set")
		}
		client := keystone.New(keystone.Config{
			AuthURL: k.AuthURL, WWWAuthenticate: k.AuthenticateURI, Username: k.Username, Password: k.Password,
			UserDomainName: k.UserDomain, ProjectName: k.Project, ProjectDomainName: k.ProjectDomain, Region: k.Region,
			Interface: k.Interface, ServiceTokenRoles: k.ServiceTokenRoles, HTTPClient: outward,
		})
		auth, projects = client, client
		catalog = func(ctx context.Context) (string, error) { return client.Endpoint(ctx, "image") }
	}
	var servers []string
	if c.GlanceAPI != "" {
		servers = []string{c.GlanceAPI}
	}
	images, err := glance.New(glance.Config{Servers: servers, Catalog: catalog, HTTPClient: outward})
	if err != nil {
		return nil, fmt.Errorf("[DEFAULT] glance_api_servers: %w", err)
	}
	volumes := v3.Config{
		Store: APIStore(store), Scheduler: sched, Glance: glance.NewCache(images, time.Now), Projects: projects, Policy: rules, Log: log,
		ForceUpload: c.ForceUpload, DefaultType: c.DefaultType, DefaultGroupType: c.DefaultGroupType, DefaultZone: c.AvailabilityZone,
		MaxLimit: c.MaxLimit, ServiceDownTime: c.NodeDown,
		Backend: backend(c), Filters: filters,
	}
	if compute != nil {
		volumes.Nova = compute
	}
	return api.New(api.Config{
		V3: volumes, Auth: auth, Log: log, PublicEndpoint: c.PublicEndpoint, MaxBody: int64(c.MaxBody), ProxyHeaders: c.ProxyHeaders,
		CORS: api.CORS(c.CORS),
	})
}

// backend is what the configuration says of all pools.
func backend(c *config.Config) model.Backend {
	return model.Backend{Name: c.BackendName, Version: Version, ReservedPercentage: c.ReservedPercentage}
}
