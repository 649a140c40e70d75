package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// errUnavailable says that this machine, or this user on it, cannot have a cluster. It is no failure of ours.
var errUnavailable = errors.New("no cluster can be had here")

// Numbers of capabilities, from linux/capability.h.
const (
	capNetAdmin    = 12
	capSysChroot   = 18
	capSysAdmin    = 21
	capSysResource = 24
	capMknod       = 27
)

// What an engine cannot do without: its own mounts and namespaces, links, devices.
var engineCapabilities = []capability{
	{capNetAdmin, "CAP_NET_ADMIN"}, {capSysChroot, "CAP_SYS_CHROOT"}, {capSysAdmin, "CAP_SYS_ADMIN"}, {capMknod, "CAP_MKNOD"},
}

// What debootstrap cannot do without.
var nodeCapabilities = []capability{{capSysChroot, "CAP_SYS_CHROOT"}, {capMknod, "CAP_MKNOD"}}

type capability struct {
	number uint
	name   string
}

// privileges are those of this process.
type privileges struct {
	root         bool
	capabilities uint64
	// data is where an engine of our own may keep its data, once that has been tried
	data medium
}

// enginePrivileges are our own, if they and this machine suffice for an engine of our own.
func enginePrivileges() (privileges, error) {
	rights, err := ownPrivileges()
	if err == nil {
		err = rights.forEngine()
	}
	if err == nil {
		rights.data, err = rehearse()
	}
	return rights, err
}

func ownPrivileges() (privileges, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return privileges{}, err
	}
	capabilities, err := parseCapabilities(string(status))
	return privileges{root: os.Geteuid() == 0, capabilities: capabilities}, err
}

// parseCapabilities reads the effective set of a /proc/PID/status.
func parseCapabilities(status string) (uint64, error) {
	_, rest, found := strings.Cut(status, "\nCapEff:")
	if !found {
		return 0, errors.New("/proc/self/status has no CapEff")
	}
	line, _, _ := strings.Cut(rest, "\n")
	return strconv.ParseUint(strings.TrimSpace(line), 16, 64)
}

func (p privileges) has(capability uint) bool {
	return p.capabilities>>capability&1 == 1
}

// forEngine says what is missing for an engine of our own.
func (p privileges) forEngine() error {
	if !p.root {
		return fmt.Errorf("%w: no Docker engine answers, and starting one of our own takes root; "+
			"start Docker, or run this as root (or set KUBECONFIG to a cluster of yours)", errUnavailable)
	}
	if lacks := p.lacks(engineCapabilities); lacks != "" {
		return fmt.Errorf("%w: no Docker engine answers, and root lacks %s here, which one of our own needs; "+
			"in a container, start that with --privileged", errUnavailable, lacks)
	}
	return nil
}

// forNode says what is missing to build a node image.
func (p privileges) forNode() error {
	if !p.root {
		return fmt.Errorf("%w: images cannot be pulled, and building a node image of our own takes root", errUnavailable)
	}
	if lacks := p.lacks(nodeCapabilities); lacks != "" {
		return fmt.Errorf("%w: images cannot be pulled, and root lacks %s here, which building a node image of our own needs; "+
			"in a container, start that with --privileged", errUnavailable, lacks)
	}
	return nil
}

// lacks names those of the wanted that are not there.
func (p privileges) lacks(wanted []capability) string {
	var names []string
	for _, capability := range wanted {
		if !p.has(capability.number) {
			names = append(names, capability.name)
		}
	}
	return strings.Join(names, " and ")
}

// machineSettings are those of the kernel that change for the whole machine while an engine of ours runs, and to what:
// kubelet changes them from inside a node (setupKernelTunables in pkg/kubelet/cm), and the first one is raised by us.
var machineSettings = map[string]string{
	inotifyInstances:            "512",
	"kernel/keys/root_maxbytes": "25000000",
	"kernel/keys/root_maxkeys":  "1000000",
	"kernel/panic":              "10",
	"kernel/panic_on_oops":      "1",
	"vm/overcommit_memory":      "1",
	"vm/panic_on_oom":           "0",
}

// readSettings reads what /proc/sys, or a folder like it, holds now.
func readSettings(folder string) map[string]string {
	settings := map[string]string{}
	for name := range machineSettings {
		if content, err := os.ReadFile(filepath.Join(folder, name)); err == nil {
			settings[name] = strings.TrimSpace(string(content))
		}
	}
	return settings
}

// restoreSettings puts back what was before, but only where kubelet's value still stands.
func restoreSettings(folder string, before map[string]string) error {
	var errs []error
	for name, now := range readSettings(folder) {
		if was, known := before[name]; known && was != now && now == machineSettings[name] {
			errs = append(errs, os.WriteFile(filepath.Join(folder, name), []byte(was+"\n"), 0o644))
		}
	}
	return errors.Join(errs...)
}
