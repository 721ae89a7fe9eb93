package keystone

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sync/singleflight"
)

// Config of a [Validator]: sections [keystone_authtoken] of vmthunder.conf.
type Config struct {
	AuthURL           string // http://HOST:5000, with or without /v3
	WWWAuthenticate   string // www_authenticate_uri, told to clients; "" = AuthURL
	Username          string
	Password          string
	UserDomainName    string // one of name and id; default "Default"
	UserDomainID      string
	ProjectName       string
	ProjectDomainName string // one of name and id; default "Default"
	ProjectDomainID   string
	Region            string // of endpoints; "" = any
	Interface         string // of endpoints: internal, public or admin; default internal
	// ServiceTokenRoles: a service token counts if it has one of them; default service.
	ServiceTokenRoles []string
	CacheTTL          time.Duration // longest time an answer is kept; default 5 minutes
	NegativeTTL       time.Duration // of refusals; default 10 seconds
	CacheSize         int           // answers; default 10000
	Timeout           time.Duration // of one request to Keystone; default 10 seconds
	HTTPClient        *http.Client  // default: a client with Timeout
	Now               func() time.Time
}

// Validator asks Keystone about tokens. Safe for concurrent use.
type Validator struct {
	cfg    Config
	client *client
	cache  *lru
	flight singleflight.Group
}

// New makes a validator; it does not talk to Keystone yet, so that a control plane
// starts while Keystone is down.
func New(cfg Config) *Validator {
	cfg.defaults()
	return &Validator{cfg: cfg, client: newClient(cfg), cache: newLRU(cfg.CacheSize)}
}

func (cfg *Config) defaults() {
	def(&cfg.WWWAuthenticate, cfg.AuthURL)
	def(&cfg.Interface, "internal")
	def(&cfg.CacheTTL, 5*time.Minute)
	def(&cfg.NegativeTTL, 10*time.Second)
	def(&cfg.CacheSize, 10000)
	def(&cfg.Timeout, 10*time.Second)
	if cfg.UserDomainID == "" {
		def(&cfg.UserDomainName, "Default")
	}
	if cfg.ProjectDomainID == "" {
		def(&cfg.ProjectDomainName, "Default")
	}
	if len(cfg.ServiceTokenRoles) == 0 {
		cfg.ServiceTokenRoles = []string{"service"}
	}
	if cfg.HTTPClient == nil {
		cfg.HTTPClient = &http.Client{Timeout: cfg.Timeout}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
}

func def[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}

// Challenge implements [Authenticator].
func (v *Validator) Challenge() string { return `Keystone uri="` + v.cfg.WWWAuthenticate + `"` }

// Authenticate implements [Authenticator]. With a valid service token of a right role
// the user's token may have expired meanwhile (Keystone's allow_expired), so that long
// operations of Nova come to their end.
func (v *Validator) Authenticate(ctx context.Context, h http.Header, _ string) (Identity, error) {
	token := h.Get("X-Auth-Token")
	if token == "" {
		return Identity{}, fmt.Errorf("no token: %w", ErrUnauthorized)
	}
	service := false
	if st := h.Get("X-Service-Token"); st != "" {
		s, err := v.validate(ctx, st, false)
		if err != nil {
			return Identity{}, fmt.Errorf("service token: %w", err)
		}
		service = slices.ContainsFunc(v.cfg.ServiceTokenRoles, s.HasRole)
	}
	id, err := v.validate(ctx, token, service)
	if err != nil {
		return Identity{}, err
	}
	id.ServiceToken, id.Token = service, token
	return id, nil
}

// validate asks the cache, then Keystone, once for however many callers.
func (v *Validator) validate(ctx context.Context, token string, expired bool) (Identity, error) {
	prefix := "valid:"
	if expired {
		prefix = "expired:"
	}
	key := sha256.Sum256([]byte(prefix + token))
	if a, ok := v.cache.get(key, v.cfg.Now()); ok {
		return a.identity()
	}
	// The answer is for all who wait, so it must not die with the first one's request.
	ch := v.flight.DoChan(string(key[:]), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), v.cfg.Timeout)
		defer cancel()
		// Who looked just before an earlier flight's answer was kept finds it here.
		if a, ok := v.cache.get(key, v.cfg.Now()); ok {
			return a, nil
		}
		return v.ask(ctx, key, token, expired)
	})
	select {
	case <-ctx.Done():
		return Identity{}, fmt.Errorf("%w: %w", ErrUnreachable, ctx.Err())
	case r := <-ch:
		if r.Err != nil {
			return Identity{}, r.Err
		}
		a, _ := r.Val.(answer)
		return a.identity()
	}
}

// ask validates with Keystone and remembers the answer. That Keystone could not be
// reached is no answer.
func (v *Validator) ask(ctx context.Context, key [32]byte, token string, expired bool) (answer, error) {
	id, until, err := v.client.validate(ctx, token, expired)
	if err != nil {
		return answer{}, err
	}
	now := v.cfg.Now()
	a := answer{key: key, id: id, expires: now.Add(v.cfg.CacheTTL)}
	switch {
	case id == nil:
		a.expires = now.Add(v.cfg.NegativeTTL)
	case until.After(now) && until.Before(a.expires):
		a.expires = until
	case !until.After(now) && !expired:
		a.id, a.expires = nil, now.Add(v.cfg.NegativeTTL)
	}
	v.cache.put(a)
	return a, nil
}

func (a answer) identity() (Identity, error) {
	if a.id == nil {
		return Identity{}, fmt.Errorf("token refused: %w", ErrUnauthorized)
	}
	id := *a.id
	id.Roles = slices.Clone(id.Roles)
	return id, nil
}

// Endpoint finds a service in the catalog of the service user, for instance "image".
func (v *Validator) Endpoint(ctx context.Context, serviceType string) (string, error) {
	return v.client.endpoint(ctx, serviceType)
}
