package wire

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/uuid"

	"github.com/vmthunder/vmthunder/api/keystone"
	"github.com/vmthunder/vmthunder/cmd/internal/config"
)

// What [nova] leaves out is as in [keystone_authtoken].
func TestNovaSection(t *testing.T) {
	var logins, asked []string
	s := httptest.NewServer(nil)
	defer s.Close()
	s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			asked = append(asked, r.URL.Path)
			fmt.Fprint(w, `{"volumeAttachment":{"attachment_id":"a"}}`)
			return
		}
		var body struct {
			Auth struct {
				Identity struct {
					Password struct {
						User struct {
							Name, Password string
							Domain         struct{ Name string }
						}
					}
					Token struct{ ID string }
				}
				Scope struct {
					Project struct {
						ID, Name string
						Domain   struct{ Name string }
					}
				}
			}
		}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			t.Error(err)
		}
		u, p := body.Auth.Identity.Password.User, body.Auth.Scope.Project
		logins = append(logins, fmt.Sprint(r.URL.Path, " ", u.Name, ":", u.Password, "@", u.Domain.Name, " ", p.Name, "@", p.Domain.Name, body.Auth.Identity.Token.ID, p.ID))
		w.Header().Set("X-Subject-Token", "t")
		w.WriteHeader(http.StatusCreated)
		endpoints := ""
		for _, region := range []string{"R1", "R2"} {
			for _, iface := range []string{"public", "internal"} {
				endpoints += fmt.Sprintf(`,{"id":"%[2]s%[3]s","interface":%[3]q,"region":%[2]q,"region_id":%[2]q,"url":"%[1]s/%[2]s/%[3]s/v2.1"}`, s.URL, region, iface)
			}
		}
		fmt.Fprintf(w, `{"token":{"expires_at":"2099-01-01T00:00:00.000000Z","catalog":[{"type":"compute","name":"nova","id":"1","endpoints":[%s]}]}}`, endpoints[1:])
	})
	base := "[keystone_authtoken]\nauth_url = " + s.URL + "/a/v3\nusername = vmthunder\npassword = pw\nregion_name = R1\n[nova]\n"
	for _, x := range []struct{ section, login, asked string }{
		{"", "/a/v3/auth/tokens vmthunder:pw@Default service@Default", "/R1/public"},
		{"interface = internal\nregion_name = R2\n", "/a/v3/auth/tokens vmthunder:pw@Default service@Default", "/R2/internal"},
		{"auth_url = " + s.URL + "/b/v3\nusername = n\npassword = q\nproject_name = x\nuser_domain_name = D\nproject_domain_name = E\n", "/b/v3/auth/tokens n:q@D x@E", "/R1/public"},
		{"token_auth_url = " + s.URL + "/c/v3\n", "/c/v3/auth/tokens :@ @alicep1", "/R1/public"},
	} {
		file := filepath.Join(t.TempDir(), "vmthunder.conf")
		if err := os.WriteFile(file, []byte(base+x.section), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := config.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		client, err := novaClient(c)
		if err != nil {
			t.Fatal(err)
		}
		logins, asked = nil, nil
		server, volume := uuid.New(), uuid.New()
		if _, err := client.Attachment(t.Context(), keystone.Identity{Token: "alice", ProjectID: "p1"}, server, volume); err != nil {
			t.Fatal(err)
		}
		want := x.asked + "/v2.1/servers/" + server.String() + "/os-volume_attachments/" + volume.String()
		if len(logins) != 1 || logins[0] != x.login || len(asked) != 1 || asked[0] != want {
			t.Errorf("%q: logins %q, want %q; asked %q, want %q", x.section, logins, x.login, asked, want)
		}
	}
	if c, err := novaClient(&config.Config{AuthStrategy: "noauth"}); c != nil || err != nil {
		t.Errorf("without Keystone: %v, %v", c, err)
	}
	if _, err := novaClient(&config.Config{AuthStrategy: "keystone"}); err == nil {
		t.Error("a client without a user")
	}
}
