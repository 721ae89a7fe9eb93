package transport

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// URL is a parsed transport_url. It prints without passwords.
type URL struct {
	Hosts []Host
	VHost string // "/" if the URL names none
	Query url.Values
}

// Host is one of the brokers of a cluster.
type Host struct {
	User     string
	Password string
	Name     string
	Port     int
}

const defaultPort = 5672

// ParseURL reads oslo.messaging's transport_url:
//
//	rabbit://user:pass@host:port[,user:pass@host2:port2]/vhost?ssl=true
//
// User, password and vhost are percent-decoded; they default to guest, guest and /,
// the port to 5672. Format: class TransportURL in oslo_messaging/transport.py.
// Errors don't show the URL.
func ParseURL(s string) (URL, error) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return URL{}, fmt.Errorf("transport_url: no scheme")
	}
	if scheme != "rabbit" && scheme != "kombu" {
		return URL{}, fmt.Errorf("transport_url: scheme is not rabbit")
	}
	rest, _, _ = strings.Cut(rest, "#")
	rest, query, _ := strings.Cut(rest, "?")
	netloc, path, _ := strings.Cut(rest, "/")
	u := URL{VHost: unquote(path)}
	if u.VHost == "" {
		u.VHost = "/"
	}
	var err error
	if u.Query, err = url.ParseQuery(query); err != nil {
		return URL{}, fmt.Errorf("transport_url: malformed query")
	}
	for i, part := range strings.Split(netloc, ",") {
		if part == "" {
			continue
		}
		h, err := parseHost(part)
		if err != nil {
			return URL{}, fmt.Errorf("transport_url: host %d: %w", i+1, err)
		}
		u.Hosts = append(u.Hosts, h)
	}
	if len(u.Hosts) == 0 {
		return URL{}, fmt.Errorf("transport_url: no host")
	}
	return u, nil
}

func parseHost(s string) (Host, error) {
	h := Host{Port: defaultPort}
	addr := s
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		addr = s[i+1:]
		user, password, _ := strings.Cut(s[:i], ":")
		h.User, h.Password = unquote(user), unquote(password)
	}
	if h.User == "" {
		h.User = "guest"
	}
	if h.Password == "" {
		h.Password = "guest"
	}
	var port string
	if inner, ok := strings.CutPrefix(addr, "["); ok { // IPv6
		name, after, ok := strings.Cut(inner, "]")
		if !ok || after != "" && after[0] != ':' {
			return Host{}, fmt.Errorf("malformed IPv6 address")
		}
		h.Name, port = name, strings.TrimPrefix(after, ":")
	} else {
		h.Name, port, _ = strings.Cut(addr, ":")
	}
	if h.Name == "" {
		return Host{}, fmt.Errorf("no name")
	}
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return Host{}, fmt.Errorf("malformed port")
		}
		h.Port = int(n)
	}
	return h, nil
}

// unquote decodes %XX and, as Python does, leaves alone what is none.
func unquote(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// Addr is host:port.
func (h Host) Addr() string { return net.JoinHostPort(h.Name, strconv.Itoa(h.Port)) }

// String is the address, without user and password.
func (h Host) String() string { return h.Addr() }

// GoString is String.
func (h Host) GoString() string { return h.Addr() }

// String gives the URL without users and passwords.
func (u URL) String() string {
	hosts := make([]string, len(u.Hosts))
	for i, h := range u.Hosts {
		hosts[i] = h.Addr()
	}
	return "rabbit://" + strings.Join(hosts, ",") + "/" + url.PathEscape(strings.TrimPrefix(u.VHost, "/"))
}

// GoString is String.
func (u URL) GoString() string { return u.String() }
