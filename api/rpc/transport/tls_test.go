//go:build rabbit

package transport_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vmthunder/vmthunder/api/rpc"
	"github.com/vmthunder/vmthunder/api/rpc/rabbittest"
)

// tlsFront speaks TLS before a broker and writes its certificate to a file.
func tlsFront(t *testing.T, target string) (addr, ca string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", target)
			if err != nil {
				_ = in.Close()
				continue
			}
			for _, c := range [][2]net.Conn{{in, out}, {out, in}} {
				wg.Go(func() {
					_, _ = io.Copy(c[0], c[1])
					_ = c[0].Close()
					_ = c[1].Close()
				})
			}
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return l.Addr().String(), ca
}

func TestTLS(t *testing.T) {
	b := rabbittest.Start(t)
	addr, ca := tlsFront(t, b.Addr())
	url := strings.Replace(b.URL(), b.Addr(), addr, 1) + "?ssl=true"
	m := rpc.Message{Body: []byte("{}"), Key: "nowhere"}
	if _, err := open(t, url+"&ssl_ca_file="+ca, quick()).Publish(within(t, 20*time.Second), m); err != nil {
		t.Fatal(err)
	}
	_, err := open(t, url, quick()).Publish(within(t, time.Second), m)
	if !errors.Is(err, rpc.ErrNotConnected) || !strings.Contains(err.Error(), "certificate") {
		t.Fatalf("a certificate of nobody's was taken: %v", err)
	}
}
