// Command kubectl-server is kubectl for who calls it thousands of times: one process for call after call, so that the half
// of its work that it does before it knows what is asked, and the handshake with the API server, are done once.
//
// On standard input it takes calls, one JSON object each, and prints the exit status of each on a line. It runs one at a
// time, as kubectl keeps things in variables of its packages. Some commands end the process; so they end this one, with
// their exit status.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"

	"k8s.io/component-base/cli"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
)

// call is one of kubectl.
type call struct {
	Args []string          `json:"args"`
	Env  map[string]string `json:"env"`
	// Files, the first to read from and the others to write to.
	Stdin  string `json:"stdin"`
	Stdout string `json:"stdout"`
	Stderr string `json:"stderr"`
}

// ended is what a command panics with where it would end the process.
type ended struct{ status int }

func main() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "kubectl-server:", err)
		os.Exit(1)
	}
}

func serve() error {
	// Looking for garbage would be a fifth of the work (profiled).
	debug.SetGCPercent(400)
	// These variables are to be those of each call.
	calls, statuses := os.Stdin, os.Stdout
	util.BehaviorOnFatal(func(message string, status int) {
		if message != "" {
			fmt.Fprintln(os.Stderr, strings.TrimSuffix(message, "\n"))
		}
		panic(ended{status})
	})
	if err := alone(); err != nil {
		return err
	}
	next := make(chan call)
	go read(calls, next)
	for {
		status, err := (<-next).run()
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(statuses, status); err != nil {
			return err
		}
	}
}

// read ends the process with its input, in the middle of a call too: whoever made that is gone, and some calls wait for
// something without end.
func read(calls io.Reader, next chan<- call) {
	for decoder := json.NewDecoder(calls); ; {
		var one call
		err := decoder.Decode(&one)
		if errors.Is(err, io.EOF) {
			os.Exit(0)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "kubectl-server:", err)
			os.Exit(1)
		}
		next <- one
	}
}

// alone takes away what kubectl looks for plugins in, at each call and in vain. Diff is all that it starts.
func alone() error {
	if diff, err := exec.LookPath("diff"); err == nil {
		// As it does by itself.
		if err := os.Setenv("KUBECTL_EXTERNAL_DIFF", diff+" -u -N"); err != nil {
			return err
		}
	}
	return os.Setenv("PATH", "")
}

// run gives the exit status that kubectl would end with. An error is our own.
func (c call) run() (status int, err error) {
	for _, standard := range []struct {
		file **os.File
		path string
		flag int
	}{{&os.Stdin, c.Stdin, os.O_RDONLY}, {&os.Stdout, c.Stdout, os.O_WRONLY}, {&os.Stderr, c.Stderr, os.O_WRONLY}} {
		file, err := os.OpenFile(standard.path, standard.flag, 0)
		if err != nil {
			return 0, err
		}
		defer file.Close()
		before := *standard.file
		*standard.file = file
		defer func() { *standard.file = before }()
	}
	for name, value := range c.Env {
		if err := os.Setenv(name, value); err != nil {
			return 0, err
		}
	}
	defer func() {
		switch reason := recover().(type) {
		case nil:
		case ended:
			status = reason.status
		default:
			panic(reason)
		}
	}()
	os.Args = append([]string{"kubectl"}, c.Args...)
	return cli.Run(cmd.NewDefaultKubectlCommand()), nil
}
