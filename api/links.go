package api

import (
	"net/http"
	"regexp"
	"strings"
)

// hostForm is what may stand as a host in a link: a name or an address, with or without port.
var hostForm = regexp.MustCompile(`^(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?$`)

// prefixForm is what may stand before /v3 in a link.
var prefixForm = regexp.MustCompile(`^(?:/[A-Za-z0-9._~-]{1,100}){0,10}$`)

// baseURL is scheme, host and prefix that links begin with: public_endpoint, or what the
// request was sent to, or what proxies say that it was sent to at first (RFC 7239's
// Forwarded before X-Forwarded-*, as oslo.middleware's http_proxy_to_wsgi). A header of
// another form is passed over: it would be in everybody's links.
func (cfg Config) baseURL(r *http.Request) string {
	if cfg.PublicEndpoint != "" {
		return cfg.PublicEndpoint
	}
	scheme, host, prefix := "http", r.Host, ""
	if r.TLS != nil {
		scheme = "https"
	}
	if cfg.ProxyHeaders {
		proto, at := forwarded(r.Header)
		if proto == "http" || proto == "https" {
			scheme = proto
		}
		if hostForm.MatchString(at) {
			host = at
		}
		if p := strings.TrimRight(first(r.Header.Get("X-Forwarded-Prefix")), "/"); prefixForm.MatchString(p) {
			prefix = p
		}
	}
	return scheme + "://" + host + prefix
}

// forwarded is what the first proxy was asked for.
func forwarded(h http.Header) (proto, host string) {
	list := h.Get("Forwarded")
	if list == "" {
		return first(h.Get("X-Forwarded-Proto")), first(h.Get("X-Forwarded-Host"))
	}
	for part := range strings.SplitSeq(first(list), ";") {
		key, value, _ := strings.Cut(part, "=")
		value = strings.Trim(strings.TrimSpace(value), `"`)
		switch strings.ToLower(strings.TrimSpace(key)) {
		case "proto":
			proto = value
		case "host":
			host = value
		}
	}
	return proto, host
}

// first of a list that proxies have added to.
func first(list string) string {
	s, _, _ := strings.Cut(list, ",")
	return strings.TrimSpace(s)
}
