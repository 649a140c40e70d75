package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

const (
	// The Debian that nodes are made of. Its containerd and runc are those that this Kubernetes was tried with.
	nodeRelease = "bookworm"
	// Where it comes from if this machine is no Debian itself.
	debianMirror = "http://deb.debian.org/debian"
	// The tools' folder in the cache.
	toolsName = "debian-tools-" + runtime.GOARCH
)

// What an engine of our own is, and what makes a node's root folder.
var toolPackages = []string{"debian-archive-keyring", "debootstrap", "docker.io"}

// What kind's node image installs, with Debian's packages for what kind builds from source.
var nodePackages = []string{
	"ca-certificates", "conntrack", "containerd", "containernetworking-plugins", "curl", "dbus", "ethtool", "hostname",
	"iproute2", "iptables", "jq", "kmod", "libseccomp2", "mount", "nftables", "procps", "rsync", "runc", "socat",
	"systemd", "systemd-sysv", "tar", "util-linux",
}

// tools is a folder of unpacked packages. Nothing is installed: Debian's docker.io would start a service.
type tools string

// unpackTools downloads what this machine lacks of the tools, and unpacks it into the cache.
func unpackTools(log io.Writer) (tools, error) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return "", fmt.Errorf("%w: an engine and a node of our own are made of Debian's packages, and there is no apt-get; "+
			"install Docker", errUnavailable)
	}
	folder, err := once(toolsName, func(folder string) error {
		fmt.Fprintln(log, "cluster: downloading a Docker engine from Debian's packages (unpacked into the cache, not installed)")
		archives := filepath.Join(folder, "archives")
		if err := os.MkdirAll(filepath.Join(archives, "partial"), 0o755); err != nil {
			return err
		}
		options := []string{"-qq", "-o", "Dir::Cache::archives=" + archives, "-o", "Debug::NoLocking=1"}
		install := append([]string{"install", "--download-only", "--no-install-recommends", "--yes"}, append(options, toolPackages...)...)
		if err := quietly(exec.Command("apt-get", install...)); err != nil {
			// The lists may be old, or none.
			_ = exec.Command("apt-get", "-qq", "update").Run() // what follows says it better
			if err := quietly(exec.Command("apt-get", install...)); err != nil {
				return fmt.Errorf("%w: an engine and a node of our own are made of Debian's packages: %w", errUnavailable, err)
			}
		}
		packages, err := filepath.Glob(filepath.Join(archives, "*.deb"))
		if err != nil {
			return err
		}
		for _, file := range packages {
			if err := quietly(exec.Command("dpkg-deb", "--extract", file, folder)); err != nil {
				return err
			}
		}
		return os.RemoveAll(archives)
	})
	return tools(folder), err
}

// unpackedTools are the tools as far as the cache has them.
func unpackedTools() (tools, error) {
	cache, err := cacheFolder()
	return tools(filepath.Join(cache, toolsName)), err
}

// path is a PATH with the tools behind what the machine has itself.
func (t tools) path() string {
	folders := []string{os.Getenv("PATH"), "/usr/sbin", "/sbin"}
	for _, name := range []string{"usr/sbin", "usr/bin"} {
		folders = append(folders, filepath.Join(string(t), name))
	}
	return strings.Join(folders, ":")
}

// environment is ours, with the tools and their libraries in reach.
func (t tools) environment() []string {
	environment := append(os.Environ(), "PATH="+t.path())
	for _, pattern := range []string{"usr/lib/*-linux-gnu", "lib/*-linux-gnu"} {
		if found, _ := filepath.Glob(filepath.Join(string(t), pattern)); len(found) > 0 {
			environment = append(environment, "LD_LIBRARY_PATH="+strings.Join(found, ":"))
		}
	}
	return environment
}

// find gives the path of a program, the machine's own or else one of the tools.
func (t tools) find(name string) (string, error) {
	return lookUp(name, t.path())
}

// lookUp is exec.LookPath for another PATH than ours.
func lookUp(name, path string) (string, error) {
	for _, folder := range filepath.SplitList(path) {
		path := filepath.Join(folder, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("found no program %s in %s", name, path)
}

// debianName is the cache's name for the node's Debian, another for each list of packages.
func debianName() string {
	return fmt.Sprintf("debian-%s-%s-%.6x", nodeRelease, runtime.GOARCH, sha256.Sum256([]byte(strings.Join(nodePackages, " "))))
}

// debianRoot is a folder with the node's Debian in it, as debootstrap leaves it.
func debianRoot(log io.Writer) (string, error) {
	t, err := unpackTools(log)
	if err != nil {
		return "", err
	}
	return once(debianName(), func(folder string) error {
		debootstrap, err := t.find("debootstrap")
		if err != nil {
			return err
		}
		mirror := ownMirror()
		fmt.Fprintf(log, "cluster: making a Debian root folder from %s (once; about two minutes)\n", mirror)
		command := exec.Command(debootstrap, "--variant=minbase", "--include="+strings.Join(nodePackages, ","),
			nodeRelease, filepath.Join(folder, "root"), mirror)
		command.Env = t.environment()
		if unpacked := filepath.Join(string(t), "usr/share/debootstrap"); strings.HasPrefix(debootstrap, string(t)) {
			command.Env = append(command.Env, "DEBOOTSTRAP_DIR="+unpacked)
		}
		// It makes devices and mounts, and runs what it has downloaded: as far as it gets is a matter of the machine.
		if err := quietly(command); err != nil {
			return fmt.Errorf("%w: debootstrap cannot make a Debian root folder: %w", errUnavailable, err)
		}
		return nil
	})
}

// ownMirror is the mirror that this machine uses for Debian, if it is one.
func ownMirror() string {
	release, _ := os.ReadFile("/etc/os-release")
	if !strings.Contains("\n"+string(release), "\nID=debian\n") {
		return debianMirror
	}
	output, err := exec.Command("apt-get", "indextargets", "--format", "$(CREATED_BY) $(CODENAME) $(REPO_URI)").Output()
	if err != nil {
		return debianMirror
	}
	for _, line := range strings.Split(string(output), "\n") {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == "Packages" && !strings.Contains(fields[1], "-") && strings.HasSuffix(fields[2], "/debian/") {
			return fields[2]
		}
	}
	return debianMirror
}

// quietly runs a command, and tells what it wrote only if it fails.
func quietly(command *exec.Cmd) error {
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := command.Run(); err != nil {
		return fmt.Errorf("%s: %v\n%s", strings.Join(command.Args, " "), err, lastLines(output.Bytes()))
	}
	return nil
}
