package db_test

import (
	"os"
	"strings"
	"testing"

	"github.com/lib/pq"

	"github.com/vmthunder/vmthunder/db"
)

func TestConfig(t *testing.T) {
	for _, v := range []string{"PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSSLMODE", "PGAPPNAME"} {
		t.Setenv(v, "") // brings it back after
		if err := os.Unsetenv(v); err != nil {
			t.Fatal(err)
		}
	}
	type want struct {
		host, user, password, name string
		port                       uint16
		ssl                        pq.SSLMode
	}
	for connection, w := range map[string]want{
		"postgresql://vmt:s%40cret@db.example/vmthunder":                                 {"db.example", "vmt", "s@cret", "vmthunder", 5432, pq.SSLModePrefer},
		"postgresql+psycopg2://vmt:x@db.example:6432/vmthunder?charset=utf8":             {"db.example", "vmt", "x", "vmthunder", 6432, pq.SSLModePrefer},
		"postgres://vmt:x@127.0.0.1/vmthunder":                                           {"127.0.0.1", "vmt", "x", "vmthunder", 5432, pq.SSLModeDisable},
		"postgresql://vmt:x@localhost/vmthunder?sslmode=require":                         {"localhost", "vmt", "x", "vmthunder", 5432, pq.SSLModeRequire},
		"postgresql://vmt:x@[::1]:5433/vmthunder":                                        {"::1", "vmt", "x", "vmthunder", 5433, pq.SSLModeDisable},
		"postgresql+psycopg2://vmt@/vmthunder?host=/run/postgresql&client_encoding=utf8": {"/run/postgresql", "vmt", "", "vmthunder", 5432, pq.SSLModeDisable},
		"host=db.example user=vmt password='a b' dbname=vmthunder":                       {"db.example", "vmt", "a b", "vmthunder", 5432, pq.SSLModePrefer},
		"host=db.example user=vmt dbname=vmthunder sslmode=disable":                      {"db.example", "vmt", "", "vmthunder", 5432, pq.SSLModeDisable},
	} {
		c, err := db.Config(connection, db.Options{})
		if err != nil {
			t.Errorf("%s: %v", connection, err)
			continue
		}
		if got := (want{c.Host, c.User, c.Password, c.Database, c.Port, c.SSLMode}); got != w {
			t.Errorf("%s:\n got %+v\nwant %+v", connection, got, w)
		}
		if c.ApplicationName != "vmthunder" || c.Runtime["statement_timeout"] != "30000" || c.ConnectTimeout == 0 || c.Runtime["timezone"] != "UTC" {
			t.Errorf("%s: lacks a name, a timeout or the zone: %+v", connection, c.Runtime)
		}
	}
}

func TestConfigRefuses(t *testing.T) {
	for connection, words := range map[string]string{
		"":                                       "empty",
		"mysql+pymysql://vmt:geheim@db/cinder":   `"mysql" is not supported`,
		"sqlite:///x.db":                         "not supported",
		"postgresql://vmt:geheim%zz@db/cinder":   "bad % escape",
		"postgresql://vmt:geheim@db:port/cinder": "bad port",
		"postgresql:vmt:geheim@db/cinder":        "not understood",
		"host=db password=geheim sslmode=geheim": "not understood",
	} {
		_, err := db.Config(connection, db.Options{})
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: %v, want %q in it", connection, err, words)
		}
		if err != nil && strings.Contains(err.Error(), "geheim") {
			t.Errorf("the error repeats the password: %v", err)
		}
	}
}

func FuzzConfig(f *testing.F) {
	f.Add("postgresql://vmt:Geheimnis@db.example/vmthunder?a=b")
	f.Add("postgresql+psycopg2://vmt:Geheimnis%zz@[::1/x")
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := db.Config(s, db.Options{}); err != nil && strings.Contains(err.Error(), "Geheimnis") {
			t.Fatalf("password in %v", err)
		}
	})
}
