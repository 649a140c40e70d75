package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// The image that this version of kind takes by itself (its pkg/apis/config/defaults).
	usualNode = "kindest/node:v1.34.0@sha256:7416a61b42b1662ca6ca89f02028ac133a309a2a30ba309614e8ec94d976dc5a"
	// Where that image is. It answers 401 to who does not say what he wants.
	imageRegistry = "https://registry-1.docker.io/v2/"
	// From its creation to pods that are served a cluster takes half a minute on an idle machine.
	clusterTimeout = "240s"
	// kind has waited for the API server already.
	dialTimeout = 10 * time.Second
)

// kindCluster is a cluster of kind's, up or not.
type kindCluster struct {
	name string
	// folder holds its kubeconfig, and the kubectl of its version
	folder string
	kind   string
	engine *engine
	log    io.Writer
}

func newCluster(name string, e *engine, log io.Writer) (*kindCluster, error) {
	folder, err := clusterFolder(name)
	if err != nil {
		return nil, err
	}
	kind, err := goInstall(kindModule, kindVersion, log)
	if err != nil {
		return nil, err
	}
	return &kindCluster{name: name, folder: folder, kind: kind, engine: e, log: log}, nil
}

// findCluster gives a cluster that has nodes, or nil. It starts nothing.
func findCluster(name string, log io.Writer) (*kindCluster, error) {
	e, err := runningEngine()
	if e == nil || err != nil {
		return nil, err
	}
	cluster, err := newCluster(name, e, log)
	if err != nil {
		return nil, err
	}
	nodes, err := cluster.nodes()
	if len(nodes) == 0 || err != nil {
		return nil, err
	}
	return cluster, nil
}

// nodes are the names of the nodes there are.
func (c *kindCluster) nodes() ([]string, error) {
	output, err := c.engine.docker("ps", "--all", "--filter", "label=io.x-k8s.kind.cluster="+c.name, "--format", "{{.Names}}").Output()
	return strings.Fields(string(output)), err
}

func (c *kindCluster) kubeconfig() string {
	return filepath.Join(c.folder, "kubeconfig")
}

// variables are what a command needs to work with this cluster: kubectl, and docker for its nodes.
func (c *kindCluster) variables() []string {
	variables := []string{
		"KUBECONFIG=" + c.kubeconfig(),
		"PORTCULLIS_CLUSTER=" + c.name,
		"PATH=" + filepath.Join(c.folder, "bin") + ":" + c.engine.path,
	}
	if c.engine.host != "" {
		variables = append(variables, "DOCKER_HOST="+c.engine.host)
	}
	return variables
}

// create makes the cluster, and waits until pods can be served.
func (c *kindCluster) create(ctx context.Context, nodes int) error {
	if nodes < 1 {
		return fmt.Errorf("a cluster needs a node, not %d", nodes)
	}
	begun := time.Now()
	if err := requireInotify(nodes, os.Geteuid() == 0, c.log); err != nil {
		return err
	}
	image, err := c.nodeImage(ctx)
	if err != nil {
		return err
	}
	if err := c.engine.rehearse(ctx, image); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(c.folder, "bin"), 0o755); err != nil {
		return err
	}
	config := filepath.Join(c.folder, "kind.yaml")
	if err := os.WriteFile(config, []byte(kindConfig(nodes)), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(c.log, "cluster: starting the cluster %s: kind %s, %d node(s) of %s\n", c.name, kindVersion, nodes, image)
	err = c.run(ctx, c.kind, "create", "cluster", "--name", c.name, "--config", config, "--image", image,
		"--kubeconfig", c.kubeconfig())
	if err != nil {
		return err
	}
	if err := c.answers(); err != nil {
		return err
	}
	if err := c.takeKubectl(ctx, image); err != nil {
		return err
	}
	// A cluster of few nodes has none to spare for the control plane alone.
	if nodes > 1 {
		if err := c.kubectl(ctx, "taint", "node", c.name+"-control-plane", "node-role.kubernetes.io/control-plane-"); err != nil {
			return err
		}
	}
	if err := c.ready(ctx); err != nil {
		return err
	}
	if err := c.reachable(ctx); err != nil {
		return err
	}
	fmt.Fprintf(c.log, "cluster: the cluster %s is up after %s\n", c.name, time.Since(begun).Round(time.Second))
	return os.WriteFile(c.finished(), nil, 0o644)
}

// takeKubectl puts a kubectl into the cluster's folder, of the very version that the nodes are.
func (c *kindCluster) takeKubectl(ctx context.Context, image string) error {
	kubectl := filepath.Join(c.folder, "bin/kubectl")
	if image == usualNode {
		return c.run(ctx, "docker", "cp", "--follow-link", c.name+"-control-plane:/usr/bin/kubectl", kubectl)
	}
	// That of our own nodes is a part of a large program, and takes twice as long to begin.
	programs, err := buildOnce(c.log)
	if err != nil {
		return err
	}
	server, err := buildKubectlServer(c.log)
	if err != nil {
		return err
	}
	if err := os.Symlink(server, filepath.Join(c.folder, "bin", kubectlServer)); err != nil {
		return err
	}
	return os.Symlink(filepath.Join(programs, "kubectl"), kubectl)
}

// answers makes sure that the API server can be reached from here. An engine on another machine, or outside of this
// container, opens its ports there.
func (c *kindCluster) answers() error {
	published, err := c.engine.docker("port", c.name+"-control-plane", "6443/tcp").Output()
	if err != nil {
		return fmt.Errorf("docker port %s-control-plane: %w", c.name, err)
	}
	address, _, _ := strings.Cut(string(published), "\n")
	connection, err := net.DialTimeout("tcp", address, dialTimeout)
	if err != nil {
		return fmt.Errorf("%w: the Docker engine has opened %s for the cluster's API server, but not on this machine (%v); "+
			"run this where the engine is, or in a container with --network=host", errUnavailable, address, err)
	}
	return connection.Close()
}

// finished is a file that is there once the cluster is up.
func (c *kindCluster) finished() string {
	return filepath.Join(c.folder, "finished")
}

// kindConfig is kind's own configuration.
func kindConfig(nodes int) string {
	config := "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes:\n- role: control-plane\n"
	return config + strings.Repeat("- role: worker\n", nodes-1)
}

// nodeImage gives the name of a node image that the engine has: the usual one, or else one of our own.
func (c *kindCluster) nodeImage(ctx context.Context) (string, error) {
	if c.engine.hasImage(usualNode) {
		return usualNode, nil
	}
	if registryAnswers() {
		fmt.Fprintf(c.log, "cluster: pulling %s\n", usualNode)
		err := c.run(ctx, "docker", "pull", "--quiet", usualNode)
		if err == nil {
			return usualNode, nil
		}
		fmt.Fprintf(c.log, "cluster: %v\n", err)
	}
	built, err := buildNode(c.log)
	if err != nil {
		return "", err
	}
	if c.engine.hasImage(built.name) {
		return built.name, nil
	}
	fmt.Fprintf(c.log, "cluster: images cannot be pulled here; loading our own node image\n")
	return built.name, c.run(ctx, "docker", "load", "--quiet", "--input", built.archive)
}

// registryAnswers says whether there is a way to the usual node image.
func registryAnswers() bool {
	client := http.Client{Timeout: 10 * time.Second}
	response, err := client.Get(imageRegistry)
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusUnauthorized || response.StatusCode == http.StatusOK
}

// ready waits until every node is, and names of Services can be looked up.
func (c *kindCluster) ready(ctx context.Context) error {
	nodes, err := c.nodes()
	if err != nil {
		return err
	}
	for i, node := range nodes {
		nodes[i] = "node/" + node
	}
	// kind is content with less: a kubelet that has its certificate may still not get to run.
	if err := c.kubectl(ctx, append([]string{"wait", "--for=create", "--timeout=" + clusterTimeout}, nodes...)...); err != nil {
		return fmt.Errorf("%w: a kubelet does not run here: %w", errUnavailable, err)
	}
	if err := c.kubectl(ctx, "wait", "nodes", "--all", "--for=condition=Ready", "--timeout="+clusterTimeout); err != nil {
		return err
	}
	return c.kubectl(ctx, "--namespace=kube-system", "rollout", "status", "deployment/coredns", "--timeout="+clusterTimeout)
}

// reachable makes sure that every node reaches a Service whose pods run on another: CoreDNS starts before the
// workers are there. A firewall of the machine can drop what goes between containers.
func (c *kindCluster) reachable(ctx context.Context) error {
	nodes, err := c.nodes()
	if err != nil {
		return err
	}
	address, err := c.engine.command(ctx, filepath.Join(c.folder, "bin/kubectl"), "--kubeconfig="+c.kubeconfig(),
		"--namespace=kube-system", "get", "service", "kube-dns", "--output=jsonpath={.spec.clusterIP}").Output()
	if err != nil {
		return fmt.Errorf("kubectl get service kube-dns: %w", err)
	}
	url := fmt.Sprintf("http://%s:9153/metrics", address)
	for _, node := range nodes {
		// Tried again for a while, as the rules for the Service may just be on their way.
		err := c.run(ctx, "docker", "exec", node, "curl", "--silent", "--show-error", "--fail", "--output", "/dev/null",
			"--connect-timeout", "2", "--retry", "15", "--retry-delay", "1", "--retry-all-errors", url)
		if err != nil {
			return fmt.Errorf("%w: node %s does not reach cluster DNS; does a firewall here drop what goes between containers? %w",
				errUnavailable, node, err)
		}
	}
	return nil
}

// load gives all nodes the images of an archive, as `docker save` writes one.
func (c *kindCluster) load(ctx context.Context, archive string) error {
	return c.run(ctx, c.kind, "load", "image-archive", "--name", c.name, archive)
}

// remove takes the cluster away, as much of it as there is.
func (c *kindCluster) remove() error {
	if err := c.run(context.Background(), c.kind, "delete", "cluster", "--name", c.name, "--kubeconfig", c.kubeconfig()); err != nil {
		return err
	}
	fmt.Fprintf(c.log, "cluster: the cluster %s is down\n", c.name)
	return os.RemoveAll(c.folder)
}

func (c *kindCluster) kubectl(ctx context.Context, args ...string) error {
	return c.run(ctx, filepath.Join(c.folder, "bin/kubectl"), append([]string{"--kubeconfig=" + c.kubeconfig()}, args...)...)
}

func (c *kindCluster) run(ctx context.Context, name string, args ...string) error {
	return quietly(c.engine.command(ctx, name, args...))
}
