package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// engine is a Docker engine: the machine's, or one of our own.
//
// Ours lives in its own mount and PID namespaces, so that its mounts and processes end with it however it
// ends, and changes no firewall rules. What it leaves to take away is one link, control groups and a few settings.
type engine struct {
	// own is empty for the machine's engine, else the folder in /run of our own
	own string
	// path is a PATH in which docker is
	path string
	// host is for DOCKER_HOST; empty for what docker finds by itself
	host string
}

// machineEngine is the Docker engine that the docker program finds by itself, or nil.
func machineEngine() *engine {
	found := &engine{path: os.Getenv("PATH")}
	if !found.answers() {
		return nil
	}
	return found
}

// ownEngine is our engine, which may not be running. Its folder is another for each cache.
func ownEngine(t tools) (*engine, error) {
	cache, err := cacheFolder()
	if err != nil {
		return nil, err
	}
	// Short, as the path of a socket must be.
	folder := fmt.Sprintf("/run/portcullis-%.4x", sha256.Sum256([]byte(cache)))
	return &engine{own: folder, path: t.path(), host: "unix://" + folder + "/docker.sock"}, nil
}

// runningEngine gives the engine that answers, ours or the machine's, or nil. It starts and downloads nothing.
func runningEngine() (*engine, error) {
	t, err := unpackedTools()
	if err != nil {
		return nil, err
	}
	e, err := ownEngine(t)
	if err != nil || e.answers() {
		return e, err
	}
	return machineEngine(), nil
}

// findEngine gives the engine that answers, or else starts one of our own.
func findEngine(log io.Writer) (*engine, error) {
	if found, err := runningEngine(); found != nil || err != nil {
		return found, err
	}
	rights, err := enginePrivileges()
	if err != nil {
		return nil, err
	}
	t, err := unpackTools(log)
	if err != nil {
		return nil, err
	}
	e, err := ownEngine(t)
	if err != nil {
		return nil, err
	}
	if err := e.start(t, rights, log); err != nil {
		// Its programs are Debian's, and what the rehearsal tried was there: so it is this machine.
		return nil, errors.Join(fmt.Errorf("%w: an engine of our own does not start: %w", errUnavailable, err), e.stop())
	}
	return e, nil
}

// docker makes a command of the docker program, for this engine.
func (e *engine) docker(args ...string) *exec.Cmd {
	return e.command(context.Background(), "docker", args...)
}

// command makes a command that finds this engine.
func (e *engine) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, name, args...)
	command.Env = append(os.Environ(), "PATH="+e.path)
	if e.host != "" {
		command.Env = append(command.Env, "DOCKER_HOST="+e.host)
	}
	if full, err := lookUp(name, e.path); err == nil && !filepath.IsAbs(name) {
		command.Path, command.Err = full, nil
	}
	// Told to end, kind takes away what it has begun.
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	return command
}

func (e *engine) hasImage(name string) bool {
	return e.docker("image", "inspect", name).Run() == nil
}

func (e *engine) answers() bool {
	if _, err := os.Stat(e.stateFile()); e.own != "" && err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return e.command(ctx, "docker", "version", "--format", "{{.Server.Version}}").Run() == nil
}

// idle says that our engine answers, and runs nothing.
func (e *engine) idle() bool {
	nodes, err := e.docker("ps", "--all", "--quiet").Output()
	return err == nil && len(nodes) == 0
}
