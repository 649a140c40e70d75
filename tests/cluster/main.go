// Command cluster starts a Kubernetes control plane for tests and demonstrations: etcd, kube-apiserver
// and kube-controller-manager on loopback, with ports from the kernel and data in a temporary folder.
// It uses the standard library only, so that building it takes a second; package kube is the big one.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"
)

const usage = `usage:
  cluster build                           build the Kubernetes programs if need be, print their folder
  cluster up [-user NAME[:GROUP,...]]... [-api-servers N]
                                          start a control plane, print one line of JSON about it, and
                                          stop it when standard input ends or on SIGINT or SIGTERM
  cluster run [-user ...] -- COMMAND ...  start a control plane, run COMMAND with KUBECONFIG set and the
                                          Kubernetes programs first in PATH, stop the control plane;
                                          COMMAND also finds CLUSTER_FOLDER, for its files, and
                                          CLUSTER_FREE_PORTS, two ports of loopback
  cluster tie -- COMMAND ...              run COMMAND and end it when standard input ends, so that it
                                          does not outlive whoever holds the other end

  cluster kind up [-name NAME] [-nodes N] start a whole cluster in containers, with kind, unless it is up, and
                                          print what a shell needs to use it: eval "$(cluster kind up)"
  cluster kind load [-name NAME] ARCHIVE...
                                          give its nodes the images of archives, as docker save writes them
  cluster kind run [-name NAME] [-nodes N] [-keep] -- COMMAND ...
                                          start the cluster unless it is up, run COMMAND with KUBECONFIG set and
                                          kubectl and docker in PATH, stop the cluster if it was started (not with -keep)
  cluster kind down [-name NAME | -all]   stop the cluster, and take away all that it needed
  cluster kind build                      make ready what takes long, as far as this machine will need it

  cluster metrics-server                  build the metrics server if need be, print its path

kind uses the Docker engine there is, or else starts one of its own (as root), and takes kind's usual node
image where it can be pulled, or else builds one of Debian's packages and Go modules (as root). Exit status 69
says that neither can be had here.

Programs found in the folder KUBEBUILDER_ASSETS are used as they are. The rest are built once and
kept in ${XDG_CACHE_HOME:-~/.cache}/portcullis.
`

var errUsage = errors.New("bad usage")

const (
	// Bad usage, as in sysexits.h.
	exitUsage = 64
	// This machine, or who runs us on it, cannot have a kind cluster.
	exitUnavailable = 69
	// How long a command may take to end after a SIGTERM.
	gracePeriod = 10 * time.Second
)

func init() {
	// The kernel sends a child its parent-death signal when the *thread* that started it ends.
	// The main thread lives as long as the process, so every child is started from it.
	runtime.LockOSThread()
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(exitUsage)
	}
	var err error
	switch os.Args[1] {
	case "build":
		err = build()
	case "up":
		err = up(os.Args[2:])
	case "run":
		err = run(os.Args[2:])
	case "tie":
		err = tie(os.Args[2:])
	case "metrics-server":
		err = metricsServer()
	case "kind":
		err = kindCommand(os.Args[2:])
	case "rehearse": // by ourselves, in namespaces of its own
		err = rehearseSteps(os.Args[2:], os.Stdout)
	case "help", "-h", "--help":
		fmt.Print(usage)
	default:
		fmt.Fprintf(os.Stderr, "cluster: unknown command %q\n%s", os.Args[1], usage)
		os.Exit(exitUsage)
	}
	var exit *exec.ExitError
	switch {
	case errors.Is(err, errUsage):
		fmt.Fprint(os.Stderr, usage)
		os.Exit(exitUsage)
	case errors.Is(err, errUnavailable):
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(exitUnavailable)
	case errors.As(err, &exit):
		os.Exit(max(exit.ExitCode(), 1))
	case err != nil:
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func build() error {
	programs, err := findPrograms(os.Stderr)
	if err != nil {
		return err
	}
	fmt.Println(programs.built)
	return nil
}

func metricsServer() error {
	path, err := goInstall(metricsModule, metricsVersion, os.Stderr)
	if err != nil {
		return err
	}
	fmt.Println(path)
	return nil
}

func up(args []string) error {
	users, apiServers, rest := parseFlags("up", args)
	if len(rest) > 0 {
		return fmt.Errorf("up: unexpected argument %q", rest[0])
	}
	ctx, lines, stop := untilStdinEnds()
	defer stop()
	plane, err := startControlPlane(ctx, users, apiServers, os.Stderr)
	if err != nil {
		return err
	}
	defer plane.Stop()
	if err := json.NewEncoder(os.Stdout).Encode(plane); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-plane.ended:
			return err
		case line := <-lines:
			if line != "restart" {
				return fmt.Errorf("up: standard input: unknown command %q", line)
			}
			if err := plane.restart(ctx); err != nil {
				return err
			}
			fmt.Println("restarted")
		}
	}
}

func run(args []string) error {
	users, apiServers, command := parseFlags("run", args)
	if len(command) == 0 {
		return errors.New("run: no COMMAND given")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	plane, err := startControlPlane(ctx, users, apiServers, os.Stderr)
	if err != nil {
		return err
	}
	defer plane.Stop()
	ports, err := freePorts(2)
	if err != nil {
		return err
	}
	child := exec.Command(command[0], command[1:]...)
	child.Stdin = os.Stdin
	child.Env = append(os.Environ(),
		"KUBECONFIG="+plane.Kubeconfigs["admin"],
		"CLUSTER_FOLDER="+plane.Folder,
		"CLUSTER_FREE_PORTS="+strings.Join(ports, " "),
		"PATH="+plane.Programs+":"+os.Getenv("PATH"))
	return attend(ctx, child)
}

func tie(args []string) error {
	_, _, command := parseFlags("tie", args)
	if len(command) == 0 {
		return errors.New("tie: no COMMAND given")
	}
	ctx, lines, stop := untilStdinEnds()
	defer stop()
	go func() {
		for range lines { // nobody speaks to it
		}
	}()
	return attend(ctx, exec.Command(command[0], command[1:]...))
}

// untilStdinEnds makes a context that ends with standard input, or on a signal. Whoever started us
// holds the other end of that pipe: however they end, it closes. Until then the channel has its lines.
func untilStdinEnds() (context.Context, <-chan string, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	ctx, cancel := context.WithCancel(ctx)
	lines := make(chan string)
	go func() {
		defer cancel()
		for input := bufio.NewScanner(os.Stdin); input.Scan(); {
			select {
			case lines <- input.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, lines, func() { cancel(); stop() }
}

// attend runs child until it ends; when ctx does, child gets a SIGTERM, and later a SIGKILL.
func attend(ctx context.Context, child *exec.Cmd) error {
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := child.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	_ = child.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-ended:
		return err
	case <-time.After(gracePeriod):
		_ = child.Process.Kill()
		return <-ended
	}
}

func parseFlags(command string, args []string) (users []user, apiServers int, rest []string) {
	flags := flag.NewFlagSet("cluster "+command, flag.ExitOnError)
	flags.Usage = func() { fmt.Fprint(os.Stderr, usage) }
	flags.Func("user", "NAME[:GROUP,...]: also make a client certificate and kubeconfig for this user", func(value string) error {
		name, groups, _ := strings.Cut(value, ":")
		if name == "" {
			return errors.New("a user needs a name")
		}
		u := user{name: name}
		if groups != "" {
			u.groups = strings.Split(groups, ",")
		}
		users = append(users, u)
		return nil
	})
	flags.IntVar(&apiServers, "api-servers", 1, "start so many API servers on one etcd")
	_ = flags.Parse(args) // ExitOnError: it does not return one
	return users, max(apiServers, 1), flags.Args()
}
