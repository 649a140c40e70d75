package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// step is something that an engine of our own, or a node in it, does with the kernel.
type step struct {
	// what we could not do, if it fails
	what string
	// try does it; folder is in the cache, where the engine's data will be
	try func(folder string) error
	// mend is what may help, if not just more rights
	mend string
}

// What a cold run leaves in the cache, and what two nodes write.
const neededBytes = 4 << 30

// steps are tried in namespaces of their own, which take along all that they leave.
var steps = []step{
	{what: "make mounts private", try: func(string) error {
		return syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, "")
	}},
	{what: "mount proc", try: func(folder string) error { return mountAt(folder, "proc", "") }},
	{what: "mount tmpfs", try: func(folder string) error { return mountAt(folder, "tmpfs", "") }},
	{what: "make and open a device", try: tryDevice},
	{what: "mount an overlay in the cache", try: tryOverlay,
		mend: "set XDG_CACHE_HOME to a folder on a disk, or on a volume if this is a container"},
	{what: "add a bridge", try: func(string) error { return addLink("trial-bridge", "bridge") }},
	{what: "add a pair of virtual links", try: func(string) error { return addLink("trial-pair", "veth") }},
	{what: "speak to the kernel's packet filter", try: tryPacketFilter},
	{what: "read /dev/kmsg, as kubelet does", try: tryKernelLog},
	{what: "make control groups", try: func(folder string) error { return tryControlGroups("/sys/fs/cgroup", filepath.Base(folder)) },
		mend: "in a container, start that with --privileged --cgroupns=host"},
}

// medium is what an engine of our own keeps its data on.
type medium string

const (
	onDisk medium = "disk"
	// For a cache that no overlay can be mounted in, being one itself, as in most containers. What is kept there ends
	// with the engine.
	inMemory medium = "memory"
)

// What two nodes write, and as much again for what runs in them.
const neededMemory = 6 << 30

// rehearse tries what an engine of our own and its nodes need of the kernel, and finds a medium for its data. Root
// may have each right, and a filter of system calls, a read-only folder or a missing module be in the way all the
// same; half way through, that shows as an error that nobody understands.
func rehearse() (medium, error) {
	cache, err := cacheFolder()
	if err != nil {
		return "", err
	}
	if err := roomFor(neededBytes, cache); err != nil {
		return "", err
	}
	onDiskErr := rehearseOn(onDisk, cache)
	if onDiskErr == nil || freeMemory("/proc/meminfo", "/sys/fs/cgroup") < neededMemory {
		return onDisk, onDiskErr
	}
	if rehearseOn(inMemory, cache) != nil {
		return "", onDiskErr
	}
	return inMemory, nil
}

func rehearseOn(data medium, cache string) error {
	folder, err := os.MkdirTemp(cache, "rehearsal-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	child := exec.Command("/proc/self/exe", "rehearse", folder, string(data))
	child.Stderr = os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL,
	}
	failed, err := child.Output()
	if err != nil {
		failed = []byte(step{what: "start a process in namespaces of its own"}.failed(err))
	}
	if len(failed) > 0 {
		return fmt.Errorf("%w: no Docker engine answers, and for one of our own, root cannot %s", errUnavailable, failed)
	}
	return nil
}

// rehearseSteps is the child of rehearseOn, with its folder and medium for arguments. It tells the first step that fails.
func rehearseSteps(args []string, result io.Writer) error {
	// Anywhere else its mounts and links would stay.
	if len(args) != 2 || os.Getpid() != 1 {
		return errUsage
	}
	all := steps
	if medium(args[1]) == inMemory {
		// After mounts are private, or the machine would get this one too.
		all = slices.Insert(slices.Clone(steps), 1, step{what: "mount tmpfs over the cache", try: func(folder string) error {
			return syscall.Mount("tmpfs", folder, "tmpfs", 0, "")
		}})
	}
	for _, step := range all {
		if err := step.try(args[0]); err != nil {
			_, err = fmt.Fprint(result, step.failed(err))
			return err
		}
	}
	return nil
}

// What a node does that an engine does not: mount on its volume, write the settings of its network, make rules as kube-proxy does.
const nodeRehearsal = `set -e
cd /var && mkdir lower upper work merged
mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay merged
echo 1 >/proc/sys/net/ipv4/ip_forward
iptables-nft -t nat -N TRIAL
iptables-nft -t nat -A TRIAL -m comment --comment trial -m statistic --mode random --probability 0.5 -j MARK --or-mark 0x4000
iptables-nft -t nat -A TRIAL -m conntrack --ctstate NEW -j MASQUERADE`

// rehearse runs a container as kind runs a node, in an engine of our own. The machine's has shown what it can.
func (e *engine) rehearse(ctx context.Context, image string) error {
	if e.own == "" {
		return nil
	}
	err := quietly(e.command(ctx, "docker", "run", "--rm", "--privileged", "--security-opt=seccomp=unconfined", "--network=kind",
		"--tmpfs=/tmp", "--tmpfs=/run", "--volume=/var", "--entrypoint=/bin/sh", image, "-c", nodeRehearsal))
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: an engine of our own starts, but cannot do here what a node needs: %w", errUnavailable, err)
	}
	return err
}

// failed says what cannot be done here, why, and what may help.
func (s step) failed(err error) string {
	mend := s.mend
	if mend == "" {
		mend = "in a container, start that with --privileged"
	}
	return fmt.Sprintf("%s here (%v); %s", s.what, err, mend)
}

// roomFor says if the disk is nearly full.
func roomFor(bytes uint64, folder string) error {
	var disk syscall.Statfs_t
	if err := syscall.Statfs(folder, &disk); err != nil {
		return &fs.PathError{Op: "statfs", Path: folder, Err: err}
	}
	if free := disk.Bavail * uint64(disk.Bsize); free < bytes {
		return fmt.Errorf("%w: %s has %d MiB free, and a cluster needs %d; set XDG_CACHE_HOME to a folder with more",
			errUnavailable, folder, free>>20, bytes>>20)
	}
	return nil
}

// freeMemory is what the machine has, or may give to us: a container may have a limit. As far as neither says, none.
func freeMemory(meminfo, hierarchies string) uint64 {
	number := func(text string) (uint64, bool) {
		value, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64)
		return value, err == nil
	}
	content, _ := os.ReadFile(meminfo)
	_, rest, _ := strings.Cut(string(content), "MemAvailable:")
	kilobytes, _, _ := strings.Cut(rest, "kB")
	available, _ := number(kilobytes)
	free := available << 10
	for _, file := range []string{"memory.max", "memory/memory.limit_in_bytes"} {
		content, _ := os.ReadFile(filepath.Join(hierarchies, file))
		if limit, limited := number(string(content)); limited {
			free = min(free, limit)
		}
	}
	return free
}

// mountAt mounts a file system on a folder of its name.
func mountAt(folder, kind, options string) error {
	target := filepath.Join(folder, kind)
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	return syscall.Mount(kind, target, kind, 0, options)
}

// tryDevice makes a device like /dev/null. It needs the tmpfs of the step before.
func tryDevice(folder string) error {
	device := filepath.Join(folder, "tmpfs/null")
	const null = 1<<8 | 3
	if err := syscall.Mknod(device, syscall.S_IFCHR|0o600, null); err != nil {
		return err
	}
	return readable(device)
}

func tryOverlay(folder string) error {
	layers := map[string]string{}
	for _, name := range []string{"lower", "upper", "work"} {
		layers[name] = filepath.Join(folder, name)
		if err := os.Mkdir(layers[name], 0o755); err != nil {
			return err
		}
	}
	return mountAt(folder, "overlay", fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", layers["lower"], layers["upper"], layers["work"]))
}

func tryPacketFilter(string) error {
	socket, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, syscall.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	return syscall.Close(socket)
}

// tryKernelLog opens the kernel's log. Where there is none, kind finds a way round.
func tryKernelLog(string) error {
	if err := readable("/dev/kmsg"); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func readable(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return file.Close()
}

// tryControlGroups makes a group in each hierarchy that kubelet cannot do without, and takes it away again.
func tryControlGroups(hierarchies, name string) error {
	folders := []string{hierarchies}
	if _, err := os.Stat(filepath.Join(hierarchies, "cgroup.controllers")); err != nil { // version 1
		folders = nil
		for _, controller := range []string{"cpu", "cpuacct", "cpuset", "devices", "memory", "pids"} {
			folders = append(folders, filepath.Join(hierarchies, controller))
		}
	} else if err := mayHaveGroups(hierarchies); err != nil {
		return err
	}
	for _, folder := range folders {
		group := filepath.Join(folder, "portcullis-"+name)
		if err := os.Mkdir(group, 0o755); err != nil {
			return err
		}
		if err := os.Remove(group); err != nil {
			return err
		}
	}
	return nil
}

// mayHaveGroups says if the top of a hierarchy of version 2 cannot have groups with limits below it: the kernel
// refuses them to a group that has processes itself, unless it is the machine's root group.
func mayHaveGroups(top string) error {
	read := func(name string) []string {
		content, _ := os.ReadFile(filepath.Join(top, name)) // absent, or not to be read: nothing in it
		return strings.Fields(string(content))
	}
	for _, controller := range []string{"cpu", "cpuset", "memory", "pids"} {
		if !slices.Contains(read("cgroup.controllers"), controller) {
			return fmt.Errorf("%s has no controller %s", top, controller)
		}
		handedDown := slices.Contains(read("cgroup.subtree_control"), controller)
		_, err := os.Stat(filepath.Join(top, "cgroup.type")) // the machine's root group has none
		if !handedDown && err == nil && len(read("cgroup.procs")) > 0 {
			return fmt.Errorf("processes run in %s itself, so the groups below it cannot have the controller %s", top, controller)
		}
	}
	return nil
}
