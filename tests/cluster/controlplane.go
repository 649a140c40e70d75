package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// From nothing to ready takes 3 to 5 s on an idle machine.
	startTimeout = 2 * time.Minute
	pollInterval = 50 * time.Millisecond
	// How much garbage a component may gather before it looks for it, in percent of what it needs. The looking is then 3 % of
	// what an API server does (profiled), and would be four times as much with Go's own 100.
	garbage = "400"
	// A port that the kernel gave us is free when we ask, and may be taken before a component binds it.
	startAttempts = 3
)

// controlPlane is one that answers; its JSON is what `cluster up` prints.
type controlPlane struct {
	Folder      string            `json:"folder"`
	Programs    string            `json:"programs"`
	Kubeconfigs map[string]string `json:"kubeconfigs"`
	AuditLog    string            `json:"auditLog"`
	// APIServers are the URLs of those beside the one that the kubeconfigs name; their audit logs are AuditLog.2 and so on.
	APIServers []string `json:"apiServers"`

	ca       *authority
	children []*exec.Cmd
	// urls are those of all API servers
	urls []string
	// running counts the children that have not been waited for
	running sync.WaitGroup
	// ended gets an error when a component ends
	ended chan error
}

// errPortTaken says that another process bound a port between our asking for it and its use.
var errPortTaken = errors.New("address already in use")

func startControlPlane(ctx context.Context, users []user, apiServers int, log io.Writer) (*controlPlane, error) {
	programs, err := findPrograms(log)
	if err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		plane, err := tryStart(ctx, programs, users, apiServers)
		if err == nil || !errors.Is(err, errPortTaken) || attempt == startAttempts {
			return plane, err
		}
	}
}

func tryStart(ctx context.Context, programs *programs, users []user, apiServers int) (_ *controlPlane, err error) {
	folder, err := os.MkdirTemp("", "portcullis-cluster-")
	if err != nil {
		return nil, err
	}
	plane := &controlPlane{
		Folder:      folder,
		Programs:    filepath.Join(folder, "bin"),
		Kubeconfigs: map[string]string{},
		AuditLog:    filepath.Join(folder, "audit.log"),
		ended:       make(chan error, len(programNames)+apiServers),
	}
	defer func() {
		if err != nil {
			plane.Stop()
		}
	}()
	if err = os.Mkdir(plane.Programs, 0o755); err != nil {
		return nil, err
	}
	for name, path := range programs.path {
		if err = os.Symlink(path, filepath.Join(plane.Programs, name)); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return plane, plane.start(ctx, users, apiServers)
}

func (plane *controlPlane) start(ctx context.Context, users []user, apiServers int) (err error) {
	ports, err := freePorts(2 + apiServers)
	if err != nil {
		return err
	}
	url := "https://127.0.0.1:" + ports[2]
	if plane.ca, err = newAuthority(plane.Folder); err != nil {
		return err
	}
	if err := plane.ca.server(); err != nil {
		return err
	}
	if _, err := newKey(plane.ca.path("service-accounts.key")); err != nil {
		return err
	}
	everyone := append([]user{
		{name: "admin", groups: []string{"system:masters"}},
		{name: "system:kube-controller-manager"},
	}, users...)
	for _, u := range everyone {
		if plane.Kubeconfigs[u.name], err = plane.ca.kubeconfig(url, u); err != nil {
			return err
		}
	}
	if err := plane.startEtcd(ports[0], ports[1]); err != nil {
		return err
	}
	ready, err := plane.client()
	if err != nil {
		return err
	}
	for i, port := range ports[2:] {
		auditLog, own := plane.AuditLog, "https://127.0.0.1:"+port
		plane.urls = append(plane.urls, own)
		if i > 0 {
			auditLog = fmt.Sprintf("%s.%d", plane.AuditLog, i+1)
			plane.APIServers = append(plane.APIServers, own)
		}
		if err := plane.startAPIServer(ports[0], port, auditLog); err != nil {
			return err
		}
		if err := plane.await(ctx, "kube-apiserver ready", ready, own+"/readyz"); err != nil {
			return err
		}
	}
	if err := plane.startControllerManager(); err != nil {
		return err
	}
	// Made by a controller: pods are refused before it is there.
	return plane.await(ctx, "ServiceAccount default", ready, url+"/api/v1/namespaces/default/serviceaccounts/default")
}

func (plane *controlPlane) startEtcd(clientPort, peerPort string) error {
	client, peer := "http://127.0.0.1:"+clientPort, "http://127.0.0.1:"+peerPort
	return plane.launch("etcd",
		"--name=test",
		"--data-dir="+filepath.Join(plane.Folder, "etcd"),
		"--unsafe-no-fsync", // the data does not outlive the run
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=test="+peer,
		"--log-level=warn")
}

// Which requests the audit log tells of: every write, without the objects themselves.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
  - {level: None, verbs: [get, list, watch]}
  - {level: None, resources: [{group: "", resources: [events]}, {group: coordination.k8s.io}]}
  - {level: Metadata}
`

func (plane *controlPlane) startAPIServer(etcdPort, port, auditLog string) error {
	policy := filepath.Join(plane.Folder, "audit-policy.yaml")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil {
		return err
	}
	return plane.launch("kube-apiserver",
		"--etcd-servers=http://127.0.0.1:"+etcdPort,
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--secure-port="+port,
		"--endpoint-reconciler-type=none", // loopback is no address for an Endpoints object
		"--cert-dir="+plane.Folder,
		"--tls-cert-file="+plane.ca.path("apiserver.crt"), "--tls-private-key-file="+plane.ca.path("apiserver.key"),
		"--client-ca-file="+plane.ca.path("ca.crt"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+plane.ca.path("service-accounts.key"),
		"--service-account-signing-key-file="+plane.ca.path("service-accounts.key"),
		"--service-cluster-ip-range=10.96.0.0/16",
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--audit-policy-file="+policy, "--audit-log-path="+auditLog, "--audit-log-mode=blocking",
		"--profiling=false")
}

func (plane *controlPlane) startControllerManager() error {
	return plane.launch("kube-controller-manager",
		"--kubeconfig="+plane.Kubeconfigs["system:kube-controller-manager"],
		"--use-service-account-credentials", // each controller asks under its own name, as in real clusters
		"--service-account-private-key-file="+plane.ca.path("service-accounts.key"),
		"--root-ca-file="+plane.ca.path("ca.crt"),
		"--leader-elect=false",
		"--secure-port=0",
		"--kube-api-qps=500", "--kube-api-burst=1000", // a test should not wait for a client-side limit
		"--profiling=false")
}

// launch starts a component. It dies with us, however we end; its output goes to NAME.log.
func (plane *controlPlane) launch(name string, args ...string) error {
	// Of two API servers both write to one.
	output, err := os.OpenFile(plane.log(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer output.Close()
	child := exec.Command(filepath.Join(plane.Programs, name), args...)
	child.Stdout, child.Stderr = output, output
	child.Env = append(os.Environ(), "GOGC="+garbage)
	// A process group of its own: a Ctrl-C in the terminal is for us to act on.
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := child.Start(); err != nil {
		return err
	}
	plane.children = append(plane.children, child)
	plane.running.Add(1)
	go func() {
		defer plane.running.Done()
		plane.ended <- plane.explain(name, child.Wait())
	}()
	return nil
}

func (plane *controlPlane) log(name string) string {
	return filepath.Join(plane.Folder, name+".log")
}

// explain makes an error of a component's end, with the last lines that it wrote.
func (plane *controlPlane) explain(name string, err error) error {
	content, _ := os.ReadFile(plane.log(name))
	ended := fmt.Errorf("%s ended by itself (%v); its last lines:\n%s", name, err, lastLines(content))
	if bytes.Contains(content, []byte(errPortTaken.Error())) {
		return fmt.Errorf("%w: %w", errPortTaken, ended)
	}
	return ended
}

// lastLines are those that say why a program failed, most of the time.
func lastLines(output []byte) string {
	const told = 15
	lines := strings.Split(strings.TrimSpace(string(output)), "\n")
	return strings.Join(lines[max(0, len(lines)-told):], "\n")
}

func (plane *controlPlane) client() (*http.Client, error) {
	pair, err := tls.LoadX509KeyPair(plane.ca.path("admin.crt"), plane.ca.path("admin.key"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(plane.ca.certificate)
	return &http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}}},
	}, nil
}

// await polls url until it answers 200.
func (plane *controlPlane) await(ctx context.Context, what string, client *http.Client, url string) error {
	last := errors.New("not asked yet")
	for {
		response, err := client.Get(url)
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(response.Status)
		}
		last = err
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w (last answer: %v)", what, ctx.Err(), last)
		case err := <-plane.ended:
			return err
		case <-time.After(pollInterval):
		}
	}
}

// restart is a power cut: every component is killed, and started again on what etcd has kept.
func (plane *controlPlane) restart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	plane.kill()
	for len(plane.ended) > 0 {
		<-plane.ended
	}
	client, err := plane.client()
	if err != nil {
		return err
	}
	killed := plane.children
	plane.children = nil
	// The last one gives up when it finds no API server for ten seconds, and nobody would start it again.
	controllers := killed[len(killed)-1]
	for _, child := range killed[:len(killed)-1] {
		if err := plane.again(child); err != nil {
			return err
		}
	}
	for _, url := range plane.urls {
		if err := plane.await(ctx, "kube-apiserver ready", client, url+"/readyz"); err != nil {
			return err
		}
	}
	return plane.again(controllers)
}

// again starts a component as it was started before.
func (plane *controlPlane) again(killed *exec.Cmd) error {
	return plane.launch(filepath.Base(killed.Path), killed.Args[1:]...)
}

// Stop ends every component and removes the folder. Nothing of it is worth a gentle end.
func (plane *controlPlane) Stop() {
	plane.kill()
	_ = os.RemoveAll(plane.Folder)
}

func (plane *controlPlane) kill() {
	for _, child := range plane.children {
		_ = child.Process.Kill()
	}
	plane.running.Wait()
}

// freePorts asks the kernel for ports of loopback that nobody uses.
func freePorts(n int) ([]string, error) {
	ports := make([]string, n)
	for i := range ports {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		// Held until all are known, so that they differ.
		defer listener.Close()
		ports[i] = strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
