package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	engineStartTimeout = 30 * time.Second
	engineStopTimeout  = 20 * time.Second
)

// ownEngineState is what `down` has to know of the engine that `up` has started.
type ownEngineState struct {
	PID int `json:"pid"`
	// Started is the process's start time, as the PID alone may be another process's by now.
	Started string `json:"started"`
	// Settings of the machine, as they were before.
	Settings map[string]string `json:"settings"`
	// Key says that the machine had no daemonKey before.
	Key bool `json:"key"`
}

// daemonKey is made by a dockerd of version 20.10 that finds none, whatever folders it is told.
const daemonKey = "/etc/docker/key.json"

// link is our engine's one network link, a bridge. The kernel allows 15 bytes.
func (e *engine) link() string {
	return "pc" + strings.TrimPrefix(filepath.Base(e.own), "portcullis")
}

func (e *engine) stateFile() string {
	return filepath.Join(e.own, "engine.json")
}

// start starts our engine, and makes its one network.
func (e *engine) start(t tools, rights privileges, log io.Writer) error {
	fmt.Fprintln(log, "cluster: no Docker engine answers; starting one of our own")
	// What a crash, or a machine switched off, has left.
	if err := e.stop(); err != nil {
		return err
	}
	cache, err := cacheFolder()
	if err != nil {
		return err
	}
	data := filepath.Join(cache, "engine")
	for _, folder := range []string{e.own, data} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
	}
	dockerd, err := e.arguments(t, rights, data, log)
	if err != nil {
		return err
	}
	state := ownEngineState{Settings: readSettings("/proc/sys")}
	if others := e.others(); len(others) > 0 {
		state.Settings = others[0].Settings // those of now are no longer the machine's own
	}
	raiseInotify("/proc/sys")
	_, err = os.Stat(daemonKey)
	state.Key = errors.Is(err, fs.ErrNotExist)
	private := privateFolders
	if rights.data == inMemory {
		fmt.Fprintf(log, "cluster: no overlay can be mounted in %s; the engine keeps its data in memory\n", data)
		private += " " + filepath.Join(data, "data")
	}
	if err := e.launch(t, private, dockerd, &state); err != nil {
		return err
	}
	for begun := time.Now(); !e.answers(); time.Sleep(pollInterval) {
		if time.Since(begun) > engineStartTimeout {
			output, _ := os.ReadFile(e.log())
			return fmt.Errorf("our Docker engine does not answer after %s; its last lines:\n%s", engineStartTimeout, lastLines(output))
		}
	}
	// A machine that was switched off leaves its nodes; they would never be what they were.
	if output, err := e.docker("ps", "--all", "--quiet").Output(); err == nil && len(output) > 0 {
		if err := quietly(e.docker(append([]string{"rm", "--force", "--volumes"}, strings.Fields(string(output))...)...)); err != nil {
			return err
		}
	}
	_ = e.docker("network", "rm", "kind").Run()
	return quietly(e.docker("network", "create", "--driver", "bridge", "--opt", "com.docker.network.bridge.name="+e.link(), "kind"))
}

func (e *engine) log() string {
	return filepath.Join(e.own, "dockerd.log")
}

// arguments is the command line of our dockerd, beginning with the program.
func (e *engine) arguments(t tools, rights privileges, data string, log io.Writer) ([]string, error) {
	dockerd, err := t.find("dockerd")
	if err != nil {
		return nil, err
	}
	config := filepath.Join(e.own, "daemon.json") // not the machine's /etc/docker/daemon.json
	if err := os.WriteFile(config, []byte("{}"), 0o644); err != nil {
		return nil, err
	}
	args := []string{dockerd, "--config-file=" + config, "--data-root=" + filepath.Join(data, "data"),
		"--exec-root=" + filepath.Join(e.own, "exec"), "--pidfile=" + filepath.Join(e.own, "docker.pid"),
		"--host=unix://" + filepath.Join(e.own, "docker.sock"), "--cgroup-parent=/" + filepath.Base(e.own),
		"--exec-opt=native.cgroupdriver=cgroupfs",
		// Nodes talk to each other and to this machine; for that no rule of a firewall is needed, nor forwarding.
		"--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false",
	}
	if !rights.has(capSysResource) {
		fmt.Fprintln(log, "cluster: root lacks CAP_SYS_RESOURCE here; containers are started without what takes it")
		runc := filepath.Join(data, "runc")
		if err := goBuild("./node/runc", runc); err != nil {
			return nil, err
		}
		args = append(args, "--add-runtime=restricted="+runc, "--default-runtime=restricted")
	}
	// Reaps what containers leave behind.
	if reaper, err := t.find("docker-init"); err == nil {
		args = append([]string{reaper, "--"}, args...)
	}
	return args, nil
}

// Run as the first process of new mount and PID namespaces, with the folders to have for itself and a command as its
// arguments.
const enterNamespaces = `set -e
mount --make-rprivate /
mount -t proc proc /proc
for folder in $1; do mkdir -p $folder; mount -t tmpfs tmpfs $folder; done
shift
exec "$@"`

// Where every engine of a machine puts its sockets, whatever it is told.
const privateFolders = "/run/containerd /run/docker"

// launch starts the process, with some folders for itself. It outlives us: state says how to find it again.
func (e *engine) launch(t tools, private string, args []string, state *ownEngineState) error {
	output, err := os.Create(e.log())
	if err != nil {
		return err
	}
	defer output.Close()
	process := exec.Command("/bin/sh", append([]string{"-c", enterNamespaces, "sh", private}, args...)...)
	process.Env = t.environment()
	process.Stdout, process.Stderr = output, output
	process.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Setsid: true}
	if err := process.Start(); err != nil {
		return fmt.Errorf("start dockerd in namespaces of its own: %w", err)
	}
	state.PID = process.Process.Pid
	if state.Started, err = startTime(state.PID); err != nil {
		return err
	}
	content, err := json.Marshal(state)
	if err != nil {
		return err
	}
	return os.WriteFile(e.stateFile(), content, 0o600)
}

func readState(file string) (*ownEngineState, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	state := &ownEngineState{}
	if err := json.Unmarshal(content, state); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return state, nil
}

// others are the engines of ours that run for other caches.
func (e *engine) others() []*ownEngineState {
	var running []*ownEngineState
	files, _ := filepath.Glob(filepath.Join(filepath.Dir(e.own), "portcullis-*/engine.json"))
	for _, file := range files {
		state, err := readState(file)
		if err != nil || file == e.stateFile() {
			continue
		}
		if started, err := startTime(state.PID); err == nil && started == state.Started {
			running = append(running, state)
		}
	}
	return running
}

// stop ends our engine and takes away all that it has made, whatever of that is there.
func (e *engine) stop() error {
	state, err := readState(e.stateFile())
	if errors.Is(err, fs.ErrNotExist) {
		state, err = &ownEngineState{}, nil
	}
	if err != nil {
		return err
	}
	if e.answers() {
		_ = e.docker("network", "rm", "kind").Run()
	}
	// As the first of its PID namespace it takes every process in it along, and they the mounts.
	if err := end(state.PID, state.Started); err != nil {
		return err
	}
	if err := e.removeLinks(); err != nil {
		return err
	}
	removeControlGroups("/sys/fs/cgroup", filepath.Base(e.own))
	for _, folder := range strings.Fields(privateFolders) {
		_ = os.Remove(folder) // stays if somebody uses it
	}
	if state.Key {
		_ = os.Remove(daemonKey)
		_ = os.Remove(filepath.Dir(daemonKey)) // stays if it holds anything else
	}
	if len(e.others()) > 0 {
		state.Settings = nil // the last one puts them back
	}
	return errors.Join(restoreSettings("/proc/sys", state.Settings), os.RemoveAll(e.own))
}

// removeLinks removes our bridge and what is tied to it. A namespace whose processes were killed may live on
// for minutes, until the peers of its connections have been told, and its link with it.
func (e *engine) removeLinks() error {
	bridge := "/sys/class/net/" + e.link()
	tied, err := os.ReadDir(filepath.Join(bridge, "brif"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	links := []string{e.link()}
	for _, link := range tied {
		links = append(links, link.Name())
	}
	for _, link := range links {
		if err := deleteLink(link); err != nil {
			return fmt.Errorf("delete the link %s: %w", link, err)
		}
	}
	return nil
}

// end asks a process to end, and after a while makes it.
func end(pid int, started string) error {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		for begun := time.Now(); time.Since(begun) < engineStopTimeout; time.Sleep(pollInterval) {
			now, err := startTime(pid)
			if err != nil || now != started {
				return nil
			}
			if signal != 0 {
				_ = syscall.Kill(pid, signal)
				signal = 0
			}
		}
	}
	return fmt.Errorf("process %d does not end", pid)
}

// startTime tells apart two processes that had the same PID; it fails for one that has ended.
func startTime(pid int) (string, error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", err
	}
	return parseStartTime(string(stat))
}

// parseStartTime reads a /proc/PID/stat. The name in parentheses may hold anything.
func parseStartTime(stat string) (string, error) {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	const state, started = 0, 19 // as numbered in proc(5), less 3
	if len(fields) <= started {
		return "", fmt.Errorf("cannot read the process's state %q", stat)
	}
	if fields[state] == "Z" {
		return "", errors.New("ended, and not yet reaped")
	}
	return fields[started], nil
}

// removeControlGroups removes those of this name in each hierarchy, innermost first. The kernel keeps a group with processes in it.
func removeControlGroups(hierarchies, name string) {
	for _, pattern := range []string{name, "*/" + name} {
		found, _ := filepath.Glob(filepath.Join(hierarchies, pattern))
		for _, top := range found {
			var groups []string
			_ = filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
				if err == nil && entry.IsDir() {
					groups = append(groups, path)
				}
				return nil
			})
			for i := len(groups) - 1; i >= 0; i-- {
				_ = syscall.Rmdir(groups[i])
			}
		}
	}
}
