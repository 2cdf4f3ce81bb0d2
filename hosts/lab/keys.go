package lab

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Paths of keys in the lab's directory.
func (l *Lab) path(elem ...string) string { return filepath.Join(append([]string{l.Dir}, elem...)...) }

// KeyFile is the private key that user refit logs in with on managed hosts.
func (l *Lab) KeyFile() string { return l.path("keys", "id_ed25519") }

// AdminKeyFile is the private key of root on every host: the lab's own, never
// given to refit.
func (l *Lab) AdminKeyFile() string { return l.path("keys", "admin") }

// SigningKey is the private key that refit signs what it builds with.
func (l *Lab) SigningKey() string { return l.path("keys", "signing") }

// allowedSigners is the file that says on every node who may sign.
func (l *Lab) allowedSigners() string { return l.path("keys", "allowed_signers") }

// KnownHosts is the file that names every host's key.
func (l *Lab) KnownHosts() string { return l.path("known_hosts") }

// Authority is the certificate of the lab's own authority, in PEM.
func (l *Lab) Authority() string { return l.path("keys", "ca.crt") }

// makeKeys makes the lab's ssh keys, one host key per host and the known_hosts file.
// Keys that are there are kept, so that a lab raised anew has the same hosts.
func (l *Lab) makeKeys(ctx context.Context) error {
	if err := os.MkdirAll(l.path("keys"), 0o700); err != nil {
		return fmt.Errorf("cannot make the lab's keys: %w", err)
	}
	var known strings.Builder
	for _, name := range []string{"admin", "id_ed25519"} {
		if err := sshKey(ctx, l.path("keys", name), "refit-lab "+name); err != nil {
			return err
		}
	}
	if err := l.signingKey(ctx); err != nil {
		return err
	}
	for _, m := range Machines() {
		path := l.path("keys", "host-"+m.Name)
		if err := sshKey(ctx, path, m.Name); err != nil {
			return err
		}
		pub, err := os.ReadFile(path + ".pub")
		if err != nil {
			return fmt.Errorf("cannot read the key of %s: %w", m.Name, err)
		}
		words := strings.Fields(string(pub))
		names := m.Name + "," + m.Address
		if m.Name == "redis" {
			names += "," + RedisMoved
		}
		fmt.Fprintf(&known, "%s %s %s\n", names, words[0], words[1])
	}
	if err := os.WriteFile(l.KnownHosts(), []byte(known.String()), 0o644); err != nil {
		return fmt.Errorf("cannot write the lab's known hosts: %w", err)
	}
	return errors.Join(l.allowSigner(), l.makeCertificates())
}

// signingKey is the one key that all labs of a cache have in common: the toolchains that
// are kept there are signed with it.
func (l *Lab) signingKey(ctx context.Context) error {
	kept := filepath.Join(l.Cache, "signing")
	if err := sshKey(ctx, kept, "refit-lab signing"); err != nil {
		return err
	}
	for _, end := range []string{"", ".pub"} {
		b, err := os.ReadFile(kept + end)
		if err == nil {
			err = os.WriteFile(l.SigningKey()+end, b, 0o600)
		}
		if err != nil {
			return fmt.Errorf("cannot take over the key that signs: %w", err)
		}
	}
	return nil
}

// allowSigner writes the file of allowed signers.
func (l *Lab) allowSigner() error {
	pub, err := os.ReadFile(l.SigningKey() + ".pub")
	if err != nil {
		return fmt.Errorf("cannot read the key that signs: %w", err)
	}
	words := strings.Fields(string(pub))
	line := fmt.Sprintf("refit namespaces=\"refit-manifest\" %s %s\n", words[0], words[1])
	if err := os.WriteFile(l.allowedSigners(), []byte(line), 0o644); err != nil {
		return fmt.Errorf("cannot write the allowed signers: %w", err)
	}
	return nil
}

func sshKey(ctx context.Context, path, comment string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if _, err := run(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path); err != nil {
		return fmt.Errorf("cannot make an ssh key: %w", err)
	}
	return nil
}

// makeCertificates makes an authority and the certificates of Redis and of the
// balancer and proxies, valid for a month.
func (l *Lab) makeCertificates() error {
	if _, err := os.Stat(l.Authority()); err == nil {
		return nil
	}
	now := time.Now().Add(-time.Hour)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "refit lab"}, NotBefore: now, NotAfter: now.AddDate(0, 1, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("cannot make the lab's authority: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	if err != nil {
		return fmt.Errorf("cannot make the lab's authority: %w", err)
	}
	leaves := []struct {
		name  string
		names []string
		ips   []string
	}{
		{"redis", []string{"redis", "redis." + Domain}, []string{RedisAddress, RedisMoved}},
		{"web", []string{Domain, "*." + Domain}, nil},
	}
	for i, leaf := range leaves {
		c := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 2)), Subject: pkix.Name{CommonName: leaf.names[0]}, DNSNames: leaf.names,
			NotBefore: now, NotAfter: now.AddDate(0, 1, 0), KeyUsage: x509.KeyUsageDigitalSignature,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}
		for _, ip := range leaf.ips {
			c.IPAddresses = append(c.IPAddresses, net.ParseIP(ip))
		}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return fmt.Errorf("cannot make the certificate of %s: %w", leaf.name, err)
		}
		crt, err := x509.CreateCertificate(rand.Reader, c, ca, &key.PublicKey, caKey)
		if err != nil {
			return fmt.Errorf("cannot make the certificate of %s: %w", leaf.name, err)
		}
		pk, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return fmt.Errorf("cannot make the certificate of %s: %w", leaf.name, err)
		}
		err = errors.Join(
			writePEM(l.path("keys", leaf.name+".crt"), "CERTIFICATE", crt, 0o644),
			writePEM(l.path("keys", leaf.name+".key"), "PRIVATE KEY", pk, 0o600))
		if err != nil {
			return err
		}
	}
	return writePEM(l.Authority(), "CERTIFICATE", der, 0o644)
}

func writePEM(path, kind string, der []byte, mode os.FileMode) error {
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode); err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	return nil
}

// trust gives a TLS configuration that trusts the lab's authority alone.
func (l *Lab) trust() (*tls.Config, error) {
	b, err := os.ReadFile(l.Authority())
	if err != nil {
		return nil, fmt.Errorf("cannot read the lab's authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("cannot read the lab's authority: no certificate in %s", l.Authority())
	}
	return &tls.Config{RootCAs: pool, ServerName: Domain, MinVersion: tls.VersionTLS12}, nil
}

// makeSecrets fills in what is not set yet.
func makeSecrets(s *Secrets) error {
	b := make([]byte, 320) // 640 letters
	if _, err := rand.Read(b); err != nil {
		return fmt.Errorf("cannot make the lab's secrets: %w", err)
	}
	text := hex.EncodeToString(b)
	take := func(n int) string {
		out := text[:n]
		text = text[n:]
		return out
	}
	if s.Database != "" {
		return nil
	}
	*s = Secrets{
		Database: take(24), Replication: take(24), KeyBase: take(128), OTP: take(128),
		Probe: take(43), Load: take(43), Admin: take(43), Redis: take(24), Vapid: take(43), Storage: take(40), Mail: take(24), Cloud: "dop_v1_" + take(64),
	}
	return nil
}
