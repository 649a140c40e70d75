package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// user is somebody the API server knows by a client certificate.
type user struct {
	name   string
	groups []string
}

// authority signs every certificate of one control plane; it lives as long as that does.
type authority struct {
	folder      string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(folder string) (*authority, error) {
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "portcullis-test"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	ca := &authority{folder: folder, certificate: template}
	key, err := newKey(ca.path("ca.key"))
	if err != nil {
		return nil, err
	}
	ca.key = key
	der, err := ca.sign("ca.crt", template, key)
	if err != nil {
		return nil, err
	}
	ca.certificate, err = x509.ParseCertificate(der)
	return ca, err
}

// path of a file of ours.
func (ca *authority) path(name string) string {
	return filepath.Join(ca.folder, name)
}

// issue writes NAME.crt and NAME.key.
func (ca *authority) issue(name string, template *x509.Certificate) error {
	key, err := newKey(ca.path(name + ".key"))
	if err != nil {
		return err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	_, err = ca.sign(name+".crt", template, key)
	return err
}

func (ca *authority) sign(file string, template *x509.Certificate, key *ecdsa.PrivateKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	// Also for processes whose clocks the tests have set off.
	template.NotBefore = time.Now().AddDate(-2, 0, 0)
	template.NotAfter = time.Now().AddDate(2, 0, 0)
	der, err := x509.CreateCertificate(rand.Reader, template, ca.certificate, key.Public(), ca.key)
	if err != nil {
		return nil, err
	}
	return der, writePEM(ca.path(file), "CERTIFICATE", der)
}

// server writes the serving pair of the API server, which is reached on loopback only.
func (ca *authority) server() error {
	return ca.issue("apiserver", &x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.ParseIP("10.96.0.1")},
	})
}

// kubeconfig writes NAME.kubeconfig for a user, with everything in the one file, and returns its path.
func (ca *authority) kubeconfig(url string, u user) (string, error) {
	err := ca.issue(u.name, &x509.Certificate{
		Subject:     pkix.Name{CommonName: u.name, Organization: u.groups},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return "", err
	}
	var data [3][]byte
	for i, file := range []string{"ca.crt", u.name + ".crt", u.name + ".key"} {
		if data[i], err = os.ReadFile(ca.path(file)); err != nil {
			return "", err
		}
	}
	type object = map[string]any
	// JSON is YAML, and encodes []byte as base64, which is what a kubeconfig wants.
	config, err := json.MarshalIndent(object{
		"apiVersion":      "v1",
		"kind":            "Config",
		"current-context": "test",
		"clusters": []object{{"name": "test", "cluster": object{
			"server": url, "certificate-authority-data": data[0]}}},
		"users": []object{{"name": u.name, "user": object{
			"client-certificate-data": data[1], "client-key-data": data[2]}}},
		"contexts": []object{{"name": "test", "context": object{"cluster": "test", "user": u.name}}},
	}, "", "  ")
	if err != nil {
		return "", err
	}
	path := ca.path(u.name + ".kubeconfig")
	return path, os.WriteFile(path, config, 0o600)
}

func newKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, writePEM(path, "EC PRIVATE KEY", der)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
