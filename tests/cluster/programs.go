package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

var (
	// The programs of a control plane, and kubectl.
	programNames = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kubectl"}
	// What a node needs beside them. All but kubectl are one program: they share most of their code.
	nodeProgramNames = []string{"kube-proxy", "kube-scheduler", "kubeadm", "kubelet"}
)

// programs says where each program stands.
type programs struct {
	// path of each program by its name
	path map[string]string
	// built is the folder of those that stand in one, for people
	built string
}

// findPrograms takes each program from KUBEBUILDER_ASSETS if it is there, else from our own build.
//
// The archives that envtest downloads hold no kube-controller-manager, so both may be in use.
func findPrograms(log io.Writer) (*programs, error) {
	found := &programs{path: map[string]string{}, built: os.Getenv("KUBEBUILDER_ASSETS")}
	var missing []string
	for _, name := range programNames {
		path := filepath.Join(found.built, name)
		if info, err := os.Stat(path); found.built == "" || err != nil || info.IsDir() {
			missing = append(missing, name)
			continue
		}
		found.path[name] = path
	}
	if len(missing) == 0 {
		return found, nil
	}
	if found.built != "" {
		fmt.Fprintf(log, "cluster: KUBEBUILDER_ASSETS=%s lacks %s; using our own build\n", found.built, strings.Join(missing, ", "))
	}
	folder, err := buildOnce(log)
	if err != nil {
		return nil, err
	}
	for _, name := range missing {
		found.path[name] = filepath.Join(folder, name)
	}
	if slices.Contains(missing, "kubectl") {
		if found.path[kubectlServer], err = buildKubectlServer(log); err != nil {
			return nil, err
		}
	}
	if found.built == "" {
		found.built = folder
	}
	return found, nil
}

// buildOnce builds packages kube and kubectl unless the cache has them, and returns the folder that holds
// kubectl, and one link to kube per program.
func buildOnce(log io.Writer) (string, error) {
	source, err := moduleFolder()
	if err != nil {
		return "", err
	}
	version, hash, err := identify(source)
	if err != nil {
		return "", err
	}
	return once(fmt.Sprintf("kubernetes-%s-%s-%s", version, runtime.GOARCH, hash), func(folder string) error {
		return compile(log, source, version, folder)
	})
}

// What answers one call of kubectl after the other; see its package.
const kubectlServer = "kubectl-server"

// buildKubectlServer builds it unless the cache has it, and returns its path. It stands apart from the programs of a
// cluster, whose images are not to change with it.
func buildKubectlServer(log io.Writer) (string, error) {
	source, err := moduleFolder()
	if err != nil {
		return "", err
	}
	hash, err := fingerprint(source, "go.mod", "go.sum", filepath.Join(kubectlServer, "main.go"))
	if err != nil {
		return "", err
	}
	folder, err := once(fmt.Sprintf("%s-%s-%s", kubectlServer, runtime.GOARCH, hash), func(folder string) error {
		fmt.Fprintf(log, "cluster: building %s (once)\n", kubectlServer)
		return goBuild("./"+kubectlServer, filepath.Join(folder, kubectlServer))
	})
	return filepath.Join(folder, kubectlServer), err
}

func compile(log io.Writer, source, version, folder string) error {
	fmt.Fprintf(log, "cluster: building Kubernetes %s from its Go modules (once; about 12 minutes on two cores, seconds if Go's cache is warm)\n", version)
	begun := time.Now()
	numbers := strings.SplitN(version, ".", 3)
	const at = " -X k8s.io/component-base/version."
	// Without a version the components refuse to start, or lie about what they are.
	ldflags := "-s -w" + at + "gitVersion=v" + version + at + "gitMajor=" + numbers[0] + at + "gitMinor=" + numbers[1]
	build := exec.Command("go", "build", "-mod=readonly", "-buildvcs=false", "-trimpath", "-ldflags", ldflags,
		"-o", folder+"/", "./kube", "./kubectl")
	build.Dir = source
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=")
	build.Stdout, build.Stderr = log, log
	build.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := build.Run(); err != nil {
		return fmt.Errorf("go build of Kubernetes %s: %w", version, err)
	}
	for _, name := range slices.Concat(programNames, nodeProgramNames) {
		if name == "kubectl" {
			continue
		}
		if err := os.Symlink("kube", filepath.Join(folder, name)); err != nil {
			return err
		}
	}
	fmt.Fprintf(log, "cluster: built Kubernetes %s in %s\n", version, time.Since(begun).Round(time.Second))
	return nil
}

// moduleFolder is where this module's sources are: CLUSTER_SOURCE, or the folder this file was compiled from.
func moduleFolder() (string, error) {
	if folder := os.Getenv("CLUSTER_SOURCE"); folder != "" {
		return folder, nil
	}
	_, file, _, ok := runtime.Caller(0)
	if !ok || !filepath.IsAbs(file) {
		return "", errors.New("the folder of the sources is not known: set CLUSTER_SOURCE to tests/cluster")
	}
	return filepath.Dir(file), nil
}

var kubernetesVersion = regexp.MustCompile(`(?m)^\s*k8s\.io/kubernetes v(\d+\.\d+\.\d+)$`)

// identify reads the version of Kubernetes from go.mod, and hashes all that decides what is built.
func identify(source string) (version, hash string, err error) {
	content, err := os.ReadFile(filepath.Join(source, "go.mod"))
	if err != nil {
		return "", "", err
	}
	match := kubernetesVersion.FindSubmatch(content)
	if match == nil {
		return "", "", fmt.Errorf("%s/go.mod requires no k8s.io/kubernetes", source)
	}
	hash, err = fingerprint(source, "go.mod", "go.sum", "programs.go", "kube/main.go", "kubectl/main.go")
	return string(match[1]), hash, err
}
