package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
)

const (
	kindModule    = "sigs.k8s.io/kind"
	kindVersion   = "v0.30.0"
	corednsModule = "github.com/coredns/coredns"
	// The one that this version of kubeadm asks for.
	corednsVersion = "v1.12.1"
	// What an autoscaler asks; its image is made of it.
	metricsModule  = "sigs.k8s.io/metrics-server/cmd/metrics-server"
	metricsVersion = "v0.9.0"
)

// goInstall builds the program of a published module, once, and returns its path.
func goInstall(module, version string, log io.Writer) (string, error) {
	name := path.Base(module)
	folder, err := once(fmt.Sprintf("%s-%s-%s", name, version, runtime.GOARCH), func(folder string) error {
		fmt.Fprintf(log, "cluster: building %s %s from its Go module (once)\n", name, version)
		command := goCommand("install", "-trimpath", "-ldflags=-s -w", module+"@"+version)
		command.Env = append(command.Env, "GOBIN="+folder)
		return quietly(command)
	})
	return filepath.Join(folder, name), err
}

// goBuild builds a small program of this module.
func goBuild(pkg, path string) error {
	source, err := moduleFolder()
	if err != nil {
		return err
	}
	command := goCommand("build", "-buildvcs=false", "-trimpath", "-ldflags=-s -w", "-o", path, pkg)
	command.Dir = source
	return quietly(command)
}

// goCommand gives static programs, whatever the settings of who runs us.
func goCommand(args ...string) *exec.Cmd {
	command := exec.Command("go", args...)
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=")
	return command
}

// moduleSource is the folder of a published module's source.
func moduleSource(module, version string) (string, error) {
	command := goCommand("mod", "download", "-json", module+"@"+version)
	command.Dir = os.TempDir() // outside of any module
	output, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("go mod download %s@%s: %w", module, version, err)
	}
	var downloaded struct{ Dir string }
	return downloaded.Dir, json.Unmarshal(output, &downloaded)
}
