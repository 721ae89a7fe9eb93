package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/domains"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/endpoints"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/projects"
	kroles "github.com/gophercloud/gophercloud/v2/openstack/identity/v3/roles"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/services"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/users"

	"github.com/vmthunder/vmthunder/cmd/internal/config"
)

// registration is what Keystone should know.
type registration struct {
	region string
	urls   map[string]string // by interface
	user   config.Keystone
	roles  []string
}

// What is done with a thing in Keystone, or would be.
const (
	actionKeep   = "keep"
	actionCreate = "create"
	actionChange = "change"
)

// registered is one thing in Keystone.
type registered struct {
	Action string `json:"action"` // keep, create, change
	Kind   string `json:"kind"`   // domain, project, user, role, grant, service, endpoint
	Name   string `json:"name"`
	Value  string `json:"value,omitempty"`  // as it should be
	Before string `json:"before,omitempty"` // as it is, if it changes
	Done   bool   `json:"done"`             // it is so now
}

// registrar compares Keystone with a registration and, with apply, changes what differs.
type registrar struct {
	identity *gophercloud.ServiceClient
	apply    bool
	rows     []registered
}

func (r *registrar) run(ctx context.Context, want registration) error {
	projectDomain, err := r.domain(ctx, want.user.ProjectDomain)
	if err != nil {
		return err
	}
	userDomain, err := r.domain(ctx, want.user.UserDomain)
	if err != nil {
		return err
	}
	project, err := r.project(ctx, want.user.Project, projectDomain)
	if err != nil {
		return err
	}
	user, err := r.user(ctx, want.user, userDomain)
	if err != nil {
		return err
	}
	for _, name := range want.roles {
		if err := r.grant(ctx, name, want.user, user, project); err != nil {
			return err
		}
	}
	for _, s := range catalogServices {
		id, err := r.service(ctx, s.name, s.kind)
		if err != nil {
			return err
		}
		for _, i := range interfaces {
			if err := r.endpoint(ctx, id, s.kind, i, want.region, want.urls[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// note a thing; make, which may be nil, is what has to be done to it.
func (r *registrar) note(x registered, do func() error) error {
	x.Done = do == nil
	if do != nil && r.apply {
		if err := do(); err != nil {
			return fmt.Errorf("%s %s %s: %w", x.Action, x.Kind, x.Name, brief(err))
		}
		x.Done = true
	}
	r.rows = append(r.rows, x)
	return nil
}

// brief is an answer's status and text without the request's headers, which hold a token.
func brief(err error) error {
	if code, ok := errors.AsType[gophercloud.ErrUnexpectedResponseCode](err); ok {
		return fmt.Errorf("status %d of Keystone: %.300s", code.Actual, code.Body)
	}
	return err
}

// domain must be there: a name that is not there is a typing error.
func (r *registrar) domain(ctx context.Context, name string) (string, error) {
	page, err := domains.List(r.identity, domains.ListOpts{Name: name}).AllPages(ctx)
	if err != nil {
		return "", fmt.Errorf("list domains: %w", brief(err))
	}
	found, err := domains.ExtractDomains(page)
	if err != nil {
		return "", fmt.Errorf("list domains: %w", err)
	}
	if len(found) == 0 {
		return "", fmt.Errorf("Keystone has no domain %s ([keystone_authtoken] user_domain_name, project_domain_name)", name) //nolint:staticcheck // a name
	}
	return found[0].ID, nil
}

// project and what follows return "" for what would be made only.
func (r *registrar) project(ctx context.Context, name, domain string) (id string, err error) {
	page, err := projects.List(r.identity, projects.ListOpts{Name: name, DomainID: domain}).AllPages(ctx)
	if err != nil {
		return "", fmt.Errorf("list projects: %w", brief(err))
	}
	found, err := projects.ExtractProjects(page)
	if err != nil {
		return "", fmt.Errorf("list projects: %w", err)
	}
	if len(found) > 0 {
		return found[0].ID, r.note(registered{Action: actionKeep, Kind: "project", Name: name}, nil)
	}
	err = r.note(registered{Action: actionCreate, Kind: "project", Name: name}, func() error {
		p, err := projects.Create(ctx, r.identity, projects.CreateOpts{Name: name, DomainID: domain, Description: "Service users"}).Extract()
		if err == nil {
			id = p.ID
		}
		return err
	})
	return id, err
}

func (r *registrar) user(ctx context.Context, want config.Keystone, domain string) (id string, err error) {
	page, err := users.List(r.identity, users.ListOpts{Name: want.Username, DomainID: domain}).AllPages(ctx)
	if err != nil {
		return "", fmt.Errorf("list users: %w", brief(err))
	}
	found, err := users.ExtractUsers(page)
	if err != nil {
		return "", fmt.Errorf("list users: %w", err)
	}
	if len(found) > 0 {
		return found[0].ID, r.note(registered{Action: actionKeep, Kind: "user", Name: want.Username}, nil)
	}
	if want.Password == "" {
		return "", usageError{fmt.Errorf("user %s has to be made, and [keystone_authtoken] password is not set", want.Username)}
	}
	err = r.note(registered{Action: actionCreate, Kind: "user", Name: want.Username}, func() error {
		u, err := users.Create(ctx, r.identity, users.CreateOpts{Name: want.Username, DomainID: domain, Password: want.Password, Description: "VMThunder"}).Extract()
		if err == nil {
			id = u.ID
		}
		return err
	})
	return id, err
}

// grant has a user have a role in a project; the role is made if it is not there.
func (r *registrar) grant(ctx context.Context, name string, who config.Keystone, user, project string) error {
	page, err := kroles.List(r.identity, kroles.ListOpts{Name: name}).AllPages(ctx)
	if err != nil {
		return fmt.Errorf("list roles: %w", brief(err))
	}
	found, err := kroles.ExtractRoles(page)
	if err != nil {
		return fmt.Errorf("list roles: %w", err)
	}
	role := ""
	if len(found) > 0 {
		role = found[0].ID
		err = r.note(registered{Action: actionKeep, Kind: "role", Name: name}, nil)
	} else {
		err = r.note(registered{Action: actionCreate, Kind: "role", Name: name}, func() error {
			x, err := kroles.Create(ctx, r.identity, kroles.CreateOpts{Name: name}).Extract()
			if err == nil {
				role = x.ID
			}
			return err
		})
	}
	if err != nil {
		return err
	}
	row := registered{Action: actionCreate, Kind: "grant", Name: name, Value: "to " + who.Username + " in project " + who.Project}
	if role != "" && user != "" && project != "" {
		err := kroles.Validate(ctx, r.identity, role, kroles.ValidateOpts{UserID: user, ProjectID: project}).ExtractErr()
		if err == nil {
			row.Action = actionKeep
			return r.note(row, nil)
		}
		if !gophercloud.ResponseCodeIs(err, http.StatusNotFound) {
			return fmt.Errorf("look for role %s of user %s: %w", name, who.Username, brief(err))
		}
	}
	return r.note(row, func() error {
		return kroles.Assign(ctx, r.identity, role, kroles.AssignOpts{UserID: user, ProjectID: project}).ExtractErr()
	})
}

func (r *registrar) service(ctx context.Context, name, kind string) (id string, err error) {
	page, err := services.List(r.identity, services.ListOpts{ServiceType: kind}).AllPages(ctx)
	if err != nil {
		return "", fmt.Errorf("list services: %w", brief(err))
	}
	found, err := services.ExtractServices(page)
	if err != nil {
		return "", fmt.Errorf("list services: %w", err)
	}
	if len(found) > 1 {
		return "", fmt.Errorf("Keystone has %d services of type %s; delete those that are not used (openstack service delete ID): %s and %s", //nolint:staticcheck // a name
			len(found), kind, found[0].ID, found[1].ID)
	}
	row := registered{Action: actionKeep, Kind: "service", Name: kind, Value: name}
	if len(found) == 0 {
		row.Action = actionCreate
		err = r.note(row, func() error {
			s, err := services.Create(ctx, r.identity, services.CreateOpts{Name: name, Type: kind, Description: "Block Storage"}).Extract()
			if err == nil {
				id = s.ID
			}
			return err
		})
		return id, err
	}
	if found[0].Name == name {
		return found[0].ID, r.note(row, nil)
	}
	row.Action, row.Before = actionChange, found[0].Name
	return found[0].ID, r.note(row, func() error {
		return services.Update(ctx, r.identity, found[0].ID, services.UpdateOpts{Name: &name}).Err
	})
}

func (r *registrar) endpoint(ctx context.Context, service, kind, iface, region, url string) error {
	row := registered{Action: actionCreate, Kind: "endpoint", Name: kind + " " + iface + " " + region, Value: url}
	var found []endpoints.Endpoint
	if service != "" {
		page, err := endpoints.List(r.identity, endpoints.ListOpts{ServiceID: service, Availability: gophercloud.Availability(iface)}).AllPages(ctx)
		if err != nil {
			return fmt.Errorf("list endpoints: %w", brief(err))
		}
		if found, err = endpoints.ExtractEndpoints(page); err != nil {
			return fmt.Errorf("list endpoints: %w", err)
		}
		found = slices.DeleteFunc(found, func(e endpoints.Endpoint) bool { return e.Region != region })
	}
	if len(found) > 1 {
		return fmt.Errorf("there are %d %s endpoints of %s in region %s; delete all but one (openstack endpoint delete ID): %s and %s",
			len(found), iface, kind, region, found[0].ID, found[1].ID)
	}
	if len(found) == 0 {
		return r.note(row, func() error {
			return endpoints.Create(ctx, r.identity, endpoints.CreateOpts{
				Availability: gophercloud.Availability(iface), Region: region, URL: url, ServiceID: service,
			}).Err
		})
	}
	e := found[0]
	if e.URL == url && e.Enabled {
		row.Action = actionKeep
		return r.note(row, nil)
	}
	row.Action, row.Before = actionChange, e.URL
	if !e.Enabled {
		row.Before += ", disabled"
	}
	enabled := true
	return r.note(row, func() error {
		return endpoints.Update(ctx, r.identity, e.ID, endpoints.UpdateOpts{URL: url, Enabled: &enabled}).Err
	})
}
