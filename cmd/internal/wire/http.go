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
	return trusting("keystone_authtoken", c.Keystone.CAFile, c.Keystone.Insecure)
}

// trusting makes a transport that trusts what a section's cafile and insecure say.
func trusting(section, caFile string, insecure bool) (*http.Transport, error) {
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: time.Minute,
		IdleConnTimeout: 90 * time.Second, MaxIdleConnsPerHost: 16, ForceAttemptHTTP2: true,
	}
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure} //nolint:gosec // the operator's word
	if caFile == "" {
		return t, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, configError("[%s] cafile: %w", section, err)
	}
	t.TLSClientConfig.RootCAs = x509.NewCertPool()
	if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
		return nil, configError("[%s] cafile %s holds no certificate", section, caFile)
	}
	return t, nil
}
