//go:build lab

package clients

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/devstack/clients/webdriver"
	"github.com/vmthunder/vmthunder/devstack/lab"
)

// horizon is a person at the dashboard.
type horizon struct {
	*site
	t    *testing.T
	b    *webdriver.Browser
	dir  string
	line Line
}

// A user of the dashboard makes a volume from an image, looks at it, changes it and deletes
// it; the administrator looks at his pages. An error that the dashboard shows is one.
func TestHorizon(t *testing.T) {
	n := newNova(t, "demo") // without Nova most pages complain
	s := n.site
	s.need(t, lab.Horizon)
	h := &horizon{site: s, t: t, dir: artefacts(t, "horizon"), line: Line{Client: "Horizon 23 in Chromium"}}
	log, err := os.Create(filepath.Join(h.dir, "chromedriver.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if h.b, err = webdriver.Start(limit(t, 2*time.Minute), log); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.b.Close(); err != nil {
			t.Error(err)
		}
		table.Add(h.line)
	}()
	h.b.Timeout = 90 * time.Second

	name := fmt.Sprintf("horizon-%d", time.Now().Unix())
	const serverName = "dashboard-server"
	server := n.boot(serverName, nil, fromImage(s.image(t, lab.ImageRaw), true))
	defer n.remove(server)
	n.become(server, "ACTIVE")
	if !h.step("log in", func(ctx context.Context) error { return h.login(ctx, "demo") }) {
		return
	}
	h.page("volumes", "/project/volumes/", "#volumes")
	if h.step("create from an image", func(ctx context.Context) error { return h.create(ctx, name) }) {
		h.step("see it available", func(ctx context.Context) error { return h.until(ctx, name, "Available") })
		h.step("see its page", func(ctx context.Context) error { return h.detail(ctx, name) })
		h.step("edit", func(ctx context.Context) error {
			name += "-edited"
			return h.form(ctx, strings.TrimSuffix(name, "-edited"), "edit", map[string]string{"#id_name": name, "#id_description": "by hand"}, name)
		})
		if extends {
			h.step("extend", func(ctx context.Context) error {
				return h.form(ctx, name, "extend", map[string]string{"#id_new_size": "2"}, "2GiB")
			})
		}
		if features().Snapshot {
			h.step("snapshot", func(ctx context.Context) error { return h.snapshot(ctx, name) })
			h.step("delete the snapshot", func(ctx context.Context) error { return h.remove(ctx, snapshotTable, "of "+name) })
		}
		if h.step("attach", func(ctx context.Context) error { return h.attach(ctx, name, serverName) }) {
			h.step("detach", func(ctx context.Context) error { return h.detach(ctx, name) })
		}
		h.step("delete", func(ctx context.Context) error { return h.remove(ctx, volumeTable, name) })
	}
	for _, p := range []string{"snapshots", "backups"} {
		h.page(p, "/project/"+p+"/", "table")
	}
	h.page("access", "/project/api_access/", "#content_body") // its overview wants a network service
	h.step("log in as administrator", func(ctx context.Context) error { return h.login(ctx, "admin") })
	h.page("all volumes", "/admin/volumes/", "table")
	h.page("volume types", "/admin/volume_types/", "#volume_types")
	h.page("system information", "/admin/info/?tab=system_info__volume_services", "table")
	h.page("default quotas", "/admin/defaults/", "#content_body")
}

// extends says that volumes can be made larger.
const extends = true

// step does one thing and takes a picture. An error on the page is an error.
func (h *horizon) step(what string, f func(context.Context) error) bool {
	h.t.Helper()
	ctx := limit(h.t, 3*time.Minute)
	err := f(ctx)
	if err == nil {
		err = h.complaints(ctx)
	}
	picture := fmt.Sprintf("%02d-%s.png", h.line.Passed+h.line.Failed+1, strings.ReplaceAll(what, " ", "-"))
	png, perr := h.b.Screenshot(ctx)
	if perr == nil {
		perr = os.WriteFile(filepath.Join(h.dir, picture), png, 0o644)
	}
	if err = errors.Join(err, perr); err != nil {
		h.line.Failed++
		h.line.Failures = append(h.line.Failures, what+": "+err.Error())
		h.t.Errorf("%s: %v (see %s)", what, err, picture)
		return false
	}
	h.line.Passed++
	return true
}

// page opens a page and waits for what must be on it.
func (h *horizon) page(what, path, css string) {
	h.t.Helper()
	h.step(what, func(ctx context.Context) error { return h.open(ctx, path, css) })
}

func (h *horizon) open(ctx context.Context, path, css string) error {
	if err := h.b.Open(ctx, h.lab.HorizonURL()+path); err != nil {
		return err
	}
	return h.b.Wait(ctx, css+" on "+path, func() (bool, error) { return h.is(ctx, "document.querySelector(arguments[0])", css) })
}

// is evaluates a condition in the page.
func (h *horizon) is(ctx context.Context, condition string, args ...any) (ok bool, err error) {
	return ok, h.b.Script(ctx, "return !!("+condition+")", &ok, args...)
}

// complaints are the errors that the dashboard shows.
func (h *horizon) complaints(ctx context.Context) error {
	var texts []string
	err := h.b.Script(ctx, `return [...document.querySelectorAll(".alert-danger, .alert-error, .has-error .help-block, .modal .errorlist")]
		.map(e => e.innerText.replace(/\s+/g, " ").trim()).filter(t => t)`, &texts)
	if err == nil && len(texts) > 0 {
		err = fmt.Errorf("the page says %q", texts)
	}
	return err
}

func (h *horizon) login(ctx context.Context, user string) error {
	if err := h.open(ctx, "/auth/logout/", "body"); err != nil {
		return err
	}
	if err := h.open(ctx, "/auth/login/", "#id_username"); err != nil {
		return err
	}
	if domain, err := h.is(ctx, `document.querySelector("#id_domain")`); err != nil {
		return err
	} else if domain {
		if err := h.b.Fill(ctx, "#id_domain", "Default"); err != nil {
			return err
		}
	}
	for css, text := range map[string]string{"#id_username": user, "#id_password": lab.Password} {
		if err := h.b.Fill(ctx, css, text); err != nil {
			return err
		}
	}
	if err := h.b.Click(ctx, "#loginBtn"); err != nil {
		return err
	}
	return h.b.Wait(ctx, "the dashboard", func() (bool, error) {
		url, err := h.b.URL(ctx)
		if err != nil || strings.Contains(url, "/auth/login") {
			return false, errors.Join(err, h.complaints(ctx))
		}
		return true, nil
	})
}

// listing is a table of the dashboard: its page, and its id there.
type listing struct{ path, id string }

var (
	volumeTable   = listing{"/project/volumes/", "volumes"}
	snapshotTable = listing{"/project/snapshots/", "volume_snapshots"}
)

// row is JavaScript for a row of a table, by what stands in it.
func (l listing) row() string {
	return `[...document.querySelectorAll("#` + l.id + ` tbody tr")].find(r => r.innerText.includes(arguments[0]))`
}

// create fills in the form that the button above the list opens.
func (h *horizon) create(ctx context.Context, name string) error {
	if err := h.list(ctx, volumeTable); err != nil {
		return err
	}
	if err := h.b.Click(ctx, "#volumes__action_create"); err != nil {
		return err
	}
	if err := h.b.Fill(ctx, "#id_name", name); err != nil {
		return err
	}
	for _, x := range [][2]string{{"#id_volume_source_type", "image_source"}, {"#id_image_source", lab.ImageRaw + " ("}} {
		if err := h.choose(ctx, x[0], x[1]); err != nil {
			return err
		}
	}
	if err := h.b.Fill(ctx, "#id_size", "1"); err != nil {
		return err
	}
	return h.submit(ctx, volumeTable, name)
}

// choose selects an option, by its value or the start of its text. The selects are dressed
// up; what is behind is set as a click would.
func (h *horizon) choose(ctx context.Context, css, text string) error {
	return h.b.Wait(ctx, css+" to have "+text, func() (ok bool, err error) {
		return ok, h.b.Script(ctx, `const [css, text] = arguments, s = document.querySelector(css);
			const o = s && [...s.options].find(o => o.text.startsWith(text) || o.value === text);
			if (!o) return false;
			window.jQuery(s).val(o.value).trigger("change");
			return true`, &ok, css, text)
	})
}

func (h *horizon) list(ctx context.Context, l listing) error { return h.open(ctx, l.path, "#"+l.id) }

// submit sends the form in front and waits for the list to show a text.
func (h *horizon) submit(ctx context.Context, l listing, shows string) error {
	if err := h.b.Click(ctx, ".modal.in .modal-footer input[type=submit], .modal.in .modal-footer .btn-primary"); err != nil {
		return err
	}
	return h.b.Wait(ctx, "the list with "+shows, func() (bool, error) {
		done, err := h.is(ctx, `!document.querySelector(".modal.in") && `+l.row(), shows)
		if err != nil || done {
			return done, err
		}
		return false, h.complaints(ctx)
	})
}

// until reloads the list until a volume's row says something.
func (h *horizon) until(ctx context.Context, name, says string) error {
	return h.b.Wait(ctx, name+" to be "+says, func() (bool, error) {
		if err := h.list(ctx, volumeTable); err != nil {
			return false, err
		}
		return h.is(ctx, `((`+volumeTable.row()+`) || {innerText: ""}).innerText.includes(arguments[1])`, name, says)
	})
}

// id is a volume's, as the list has it.
func (h *horizon) id(ctx context.Context, name string) (id string, err error) {
	if err := h.list(ctx, volumeTable); err != nil {
		return "", err
	}
	return id, h.b.Script(ctx, "return ("+volumeTable.row()+").dataset.objectId", &id, name)
}

// detail follows the link in the list.
func (h *horizon) detail(ctx context.Context, name string) error {
	id, err := h.id(ctx, name)
	if err != nil {
		return err
	}
	return h.open(ctx, "/project/volumes/"+id+"/", ".detail, #volume_details__overview, dl")
}

// form opens an action of a volume's row, fills in what it asks for and sends it.
func (h *horizon) form(ctx context.Context, name, action string, fields map[string]string, shows string) error {
	if err := h.menu(ctx, name, action); err != nil {
		return err
	}
	for css, text := range fields {
		if err := h.b.Fill(ctx, ".modal.in "+css, text); err != nil {
			return err
		}
	}
	return h.submit(ctx, volumeTable, shows)
}

// menu clicks an action of a volume's row, which is in a menu that is not open.
func (h *horizon) menu(ctx context.Context, name, action string) error {
	id, err := h.id(ctx, name)
	if err != nil {
		return err
	}
	return h.b.Script(ctx, `document.getElementById(arguments[0]).click()`, nil, "volumes__row_"+id+"__action_"+action)
}

// sure clicks a button that asks whether one is sure, and says yes.
func (h *horizon) sure(ctx context.Context, css string) error {
	if err := h.b.Click(ctx, css); err != nil {
		return err
	}
	return h.b.Click(ctx, ".modal.in .modal-footer .btn-danger, .modal.in .modal-footer .btn-primary")
}

// snapshot takes one, which the dashboard then lists.
func (h *horizon) snapshot(ctx context.Context, volume string) error {
	if err := h.menu(ctx, volume, "snapshots"); err != nil {
		return err
	}
	if err := h.b.Fill(ctx, ".modal.in #id_name", "of "+volume); err != nil {
		return err
	}
	return h.submit(ctx, snapshotTable, "of "+volume)
}

// attach gives a volume to a server, by its name.
func (h *horizon) attach(ctx context.Context, volume, server string) error {
	if err := h.menu(ctx, volume, "attachments"); err != nil {
		return err
	}
	if err := h.choose(ctx, ".modal.in #id_instance", server+" ("); err != nil {
		return err
	}
	if err := h.submit(ctx, volumeTable, volume); err != nil {
		return err
	}
	return h.until(ctx, volume, "In-use")
}

// detach takes a volume from its only server.
func (h *horizon) detach(ctx context.Context, volume string) error {
	id, err := h.id(ctx, volume)
	if err != nil {
		return err
	}
	if err := h.open(ctx, "/project/volumes/"+id+"/attach/", "#attachments"); err != nil {
		return err
	}
	if err := h.sure(ctx, "#attachments tbody [id$=__action_detach]"); err != nil {
		return err
	}
	return h.until(ctx, volume, "Available")
}

// remove ticks a row, clicks the button above the list and says yes.
func (h *horizon) remove(ctx context.Context, l listing, name string) error {
	if err := h.list(ctx, l); err != nil {
		return err
	}
	if err := h.b.Script(ctx, "("+l.row()+`).querySelector("input[type=checkbox]").click()`, nil, name); err != nil {
		return err
	}
	if err := h.sure(ctx, "#"+l.id+"__action_delete"); err != nil {
		return err
	}
	return h.b.Wait(ctx, name+" to be gone", func() (bool, error) {
		if err := h.list(ctx, l); err != nil {
			return false, err
		}
		there, err := h.is(ctx, l.row(), name)
		return !there, err
	})
}
