package transport

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
)

// Options of a [Bus]; the zero value is oslo's default.
type Options struct {
	// Heartbeat: a broker silent for so long is given up
	// (heartbeat_timeout_threshold). 0: 60 s; negative: never.
	Heartbeat time.Duration
	// HeartbeatRate is how often within Heartbeat a sign of life is wanted. 0: 2.
	HeartbeatRate int
	// ConnectTimeout for TCP, TLS and login together. 0: 10 s.
	ConnectTimeout time.Duration
	// RetryMin and RetryMax bound the time between two attempts to connect,
	// which doubles and varies at random. 0: 250 ms and 30 s.
	RetryMin, RetryMax time.Duration
	// ConfirmTimeout: a message not confirmed for so long, by a broker that is not
	// blocked, is sent again. 0: 30 s.
	ConfirmTimeout time.Duration
	// TLS; nil: none, unless the URL says ssl.
	TLS *tls.Config
	// Name of the connection, shown by the broker; empty: <program>:<pid>.
	Name string
	// Log takes loss and return of the connection; nil: none.
	Log *logrus.Entry
}

// withDefaults also applies what the URL's query says: ssl, ssl_ca_file,
// ssl_cert_file, ssl_key_file, heartbeat_timeout_threshold (s), heartbeat_rate.
func (o Options) withDefaults(u URL) (Options, error) {
	if s := u.Query.Get("heartbeat_timeout_threshold"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			return o, fmt.Errorf("transport_url: malformed heartbeat_timeout_threshold")
		}
		if o.Heartbeat = time.Duration(n) * time.Second; n == 0 {
			o.Heartbeat = -1
		}
	}
	if s := u.Query.Get("heartbeat_rate"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return o, fmt.Errorf("transport_url: malformed heartbeat_rate")
		}
		o.HeartbeatRate = n
	}
	set(&o.Heartbeat, time.Minute)
	set(&o.HeartbeatRate, 2)
	set(&o.ConnectTimeout, 10*time.Second)
	set(&o.RetryMin, 250*time.Millisecond)
	set(&o.RetryMax, 30*time.Second)
	set(&o.ConfirmTimeout, 30*time.Second)
	if o.Name == "" {
		o.Name = filepath.Base(os.Args[0]) + ":" + strconv.Itoa(os.Getpid())
	}
	switch strings.ToLower(u.Query.Get("ssl")) {
	case "1", "true", "yes", "on":
		c, err := tlsFromQuery(u, o.TLS)
		if err != nil {
			return o, err
		}
		o.TLS = c
	}
	return o, nil
}

func set[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// tlsFromQuery verifies the broker's certificate also without ssl_ca_file, by the
// system's authorities; oslo does not verify then.
func tlsFromQuery(u URL, base *tls.Config) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if base != nil {
		c = base.Clone()
	}
	if ca := u.Query.Get("ssl_ca_file"); ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("transport_url: ssl_ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("transport_url: ssl_ca_file %s: no certificate", ca)
		}
	}
	if cert := u.Query.Get("ssl_cert_file"); cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, u.Query.Get("ssl_key_file"))
		if err != nil {
			return nil, fmt.Errorf("transport_url: ssl_cert_file: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
