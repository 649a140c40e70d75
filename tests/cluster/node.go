package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"
)

// What kubeadm asks for beside itself (cmd/kubeadm/app/constants).
const (
	pauseVersion = "3.10.1"
	etcdVersion  = "3.6.5-0"
)

// nodeSources decide what a node of our own is, beside the versions.
var nodeSources = []string{
	"node.go", "archive.go", "build.go", "debian.go", "node/build.sh", "node/images.service", "node/network.sh",
	"node/network.yaml", "node/pause/main.go", "node/runc/main.go", "node/storage.yaml",
}

// nodeImage is a node of our own: the name of its image, and an archive to load it from.
type nodeImage struct {
	name    string
	archive string
}

// buildNode builds a node image of Debian's packages and Go modules, unless the cache has it.
func buildNode(log io.Writer) (*nodeImage, error) {
	source, err := moduleFolder()
	if err != nil {
		return nil, err
	}
	kubernetes, programs, err := identify(source)
	if err != nil {
		return nil, err
	}
	hash, err := fingerprint(source, nodeSources...)
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("portcullis-node:v%s-%s-%s", kubernetes, programs, hash)
	folder, err := once(fmt.Sprintf("node-%s-%s-%s-%s", kubernetes, runtime.GOARCH, programs, hash), func(folder string) error {
		rights, err := ownPrivileges()
		if err != nil {
			return err
		}
		if err := rights.forNode(); err != nil {
			return err
		}
		return assembleNode(name, source, kubernetes, folder, log)
	})
	return &nodeImage{name: name, archive: filepath.Join(folder, "node.tar")}, err
}

// assembleNode writes node.tar into the folder.
func assembleNode(name, source, kubernetes, folder string, log io.Writer) error {
	type result struct {
		folder string
		err    error
	}
	// Mostly waits for a mirror, while the compiler needs the cores.
	debian := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // its children die with the thread
		folder, err := debianRoot(log)
		debian <- result{folder, err}
	}()
	programs, err := buildOnce(log)
	if err != nil {
		return err
	}
	coredns, err := goInstall(corednsModule, corednsVersion, log)
	if err != nil {
		return err
	}
	kind, err := moduleSource(kindModule, kindVersion)
	if err != nil {
		return err
	}
	system := <-debian
	if system.err != nil {
		return system.err
	}
	fmt.Fprintln(log, "cluster: putting the node image together (once; about half a minute)")
	begun := time.Now()
	work, err := os.MkdirTemp(folder, "work-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	for _, name := range []string{"pause", "runc"} {
		if err := goBuild("./node/"+name, filepath.Join(work, name)); err != nil {
			return err
		}
	}
	root, layer := filepath.Join(work, "root"), filepath.Join(work, "layer.tar")
	if err := quietly(exec.Command("cp", "--archive", "--reflink=auto", filepath.Join(system.folder, "root"), root)); err != nil {
		return err
	}
	build := exec.Command(filepath.Join(source, "node/build.sh"), root, layer)
	build.Env = append(os.Environ(), "KIND="+kind, "KUBERNETES="+programs, "VERSION="+kubernetes, "COREDNS="+coredns,
		"PAUSE="+filepath.Join(work, "pause"), "PAUSE_VERSION="+pauseVersion, "RUNC="+filepath.Join(work, "runc"))
	if err := quietly(build); err != nil {
		return err
	}
	if err := writeArchive(filepath.Join(root, "kind/images.tar"), layer, componentImages(kubernetes)...); err != nil {
		return err
	}
	if err := quietly(exec.Command("tar", "-C", root, "--numeric-owner", "-cf", layer, ".")); err != nil {
		return err
	}
	if err := writeArchive(filepath.Join(folder, "node.tar"), layer, image{
		name:       name,
		entrypoint: []string{"/usr/local/bin/entrypoint", "/sbin/init"},
		env:        []string{"container=docker", "PATH=" + containerPath},
		stopSignal: "SIGRTMIN+3", // systemd takes SIGTERM for something else
	}); err != nil {
		return err
	}
	fmt.Fprintf(log, "cluster: made the node image in %s\n", time.Since(begun).Round(time.Second))
	return nil
}

const containerPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// componentImages are those that kubeadm's manifests name: one root file system, where all programs are.
func componentImages(kubernetes string) []image {
	images := []image{
		{name: "registry.k8s.io/coredns/coredns:" + corednsVersion, entrypoint: []string{"/coredns"}},
		{name: "registry.k8s.io/etcd:" + etcdVersion},
		{name: "registry.k8s.io/pause:" + pauseVersion, entrypoint: []string{"/pause"}},
	}
	for _, component := range []string{"apiserver", "controller-manager", "proxy", "scheduler"} {
		images = append(images, image{name: "registry.k8s.io/kube-" + component + ":v" + kubernetes})
	}
	for i := range images {
		images[i].env = []string{"PATH=" + containerPath}
	}
	return images
}
