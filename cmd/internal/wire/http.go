package wire

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"time"

	"github.com/vmthunder/vmthunder/cmd/internal/config"
)

// httpTransport trusts what [keystone_authtoken] cafile and insecure say.
func httpTransport(c *config.Config) (*http.Transport, error) {
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: time.Minute,
		IdleConnTimeout: 90 * time.Second, MaxIdleConnsPerHost: 16, ForceAttemptHTTP2: true,
	}
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: c.Keystone.Insecure} //nolint:gosec // the operator's word
	if c.Keystone.CAFile == "" {
		return t, nil
	}
	pem, err := os.ReadFile(c.Keystone.CAFile)
	if err != nil {
		return nil, configError("[keystone_authtoken] cafile: %w", err)
	}
	t.TLSClientConfig.RootCAs = x509.NewCertPool()
	if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
		return nil, configError("[keystone_authtoken] cafile %s holds no certificate", c.Keystone.CAFile)
	}
	return t, nil
}
