package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestAllNodesButTheFirstAreWorkers(t *testing.T) {
	const two = `kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
nodes:
- role: control-plane
- role: worker
`
	if config := kindConfig(2); config != two {
		t.Errorf("%s", config)
	}
}

func TestACommandFindsItsClusterAndKubectlOfItsVersion(t *testing.T) {
	cluster := kindCluster{name: "n", folder: "/f", engine: &engine{own: "/run/e", path: "/usr/bin", host: "unix:///run/e/docker.sock"}}
	want := []string{"KUBECONFIG=/f/kubeconfig", "PORTCULLIS_CLUSTER=n", "PATH=/f/bin:/usr/bin", "DOCKER_HOST=unix:///run/e/docker.sock"}
	if variables := cluster.variables(); !slices.Equal(variables, want) {
		t.Errorf("%q", variables)
	}
	// The machine's engine is what docker finds by itself.
	cluster.engine = &engine{path: "/usr/bin"}
	if variables := cluster.variables(); !slices.Equal(variables, want[:3]) {
		t.Errorf("%q", variables)
	}
}

func TestAProgramIsLookedUpInTheGivenPath(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	for path, mode := range map[string]os.FileMode{
		filepath.Join(first, "docker"):  0o644, // no program
		filepath.Join(second, "docker"): 0o755,
	} {
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	found, err := lookUp("docker", first+":"+second)
	if err != nil || found != filepath.Join(second, "docker") {
		t.Errorf("%q, %v", found, err)
	}
	if found, err := lookUp("dockerd", first+":"+second); err == nil {
		t.Errorf("found %q", found)
	}
}
