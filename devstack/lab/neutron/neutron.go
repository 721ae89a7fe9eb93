// Package neutron answers what Nova asks of a network service when no server has a network:
// every collection is empty but for one security group, a single resource is not there, and
// nothing can be made. Forms are those of the Networking API v2.0.
package neutron

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"
)

type object = map[string]any

// Handler of the API; it does not ask who asks.
func Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		self := object{"rel": "self", "href": "http://" + r.Host + "/v2.0/"}
		reply(w, http.StatusOK, object{"versions": []object{{"id": "v2.0", "status": "CURRENT", "links": []object{self}}}})
	})
	mux.HandleFunc("GET /v2.0/{$}", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, object{"resources": []object{}})
	})
	mux.HandleFunc("GET /v2.0/{collection}", list)
	mux.HandleFunc("GET /v2.0/quotas/", func(w http.ResponseWriter, _ *http.Request) {
		quota := object{}
		for _, k := range []string{"port", "network", "security_group", "security_group_rule", "floatingip"} {
			quota[k] = -1
		}
		reply(w, http.StatusOK, object{"quota": quota})
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			refuse(w, http.StatusNotFound, "NotFound")
			return
		}
		refuse(w, http.StatusForbidden, "Forbidden")
	})
	return mux
}

// list a collection: /v2.0/security-groups is shown as "security_groups".
func list(w http.ResponseWriter, r *http.Request) {
	name := strings.ReplaceAll(strings.TrimSuffix(r.PathValue("collection"), ".json"), "-", "_")
	rows := []object{}
	if name == "security_groups" {
		rows = append(rows, object{
			"id": "00000000-0000-0000-0000-00000000d0f0", "name": "default", "description": "the only one",
			"security_group_rules": []object{}, "tags": []string{}, "tenant_id": "", "project_id": "",
		})
	}
	reply(w, http.StatusOK, object{name: rows})
}

func refuse(w http.ResponseWriter, status int, kind string) {
	reply(w, status, object{"NeutronError": object{"type": kind, "message": "there are no networks in this laboratory", "detail": ""}})
}

func reply(w http.ResponseWriter, status int, body object) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client has gone
}

// Serve listens on an address (HOST:PORT) until ctx ends.
func Serve(ctx context.Context, address string) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: Handler(), ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
