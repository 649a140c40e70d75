package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
)

// It is part of the names of containers, hosts and folders.
var clusterName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)

// kindFlags are those of `cluster kind ...`.
type kindFlags struct {
	name  string
	nodes int
	keep  bool
	all   bool
	// rest are the arguments that follow
	rest []string
}

func parseKindFlags(args []string) kindFlags {
	parsed := kindFlags{}
	flags := flag.NewFlagSet("cluster kind", flag.ExitOnError)
	flags.Usage = func() { fmt.Fprint(os.Stderr, usage) }
	flags.StringVar(&parsed.name, "name", "portcullis", "")
	flags.IntVar(&parsed.nodes, "nodes", 1, "")
	flags.BoolVar(&parsed.keep, "keep", false, "")
	flags.BoolVar(&parsed.all, "all", false, "")
	_ = flags.Parse(args) // ExitOnError: it does not return one
	parsed.rest = flags.Args()
	return parsed
}

// kindCommand is `cluster kind ...`.
func kindCommand(args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	flags, log := parseKindFlags(args[1:]), os.Stderr
	if !clusterName.MatchString(flags.name) {
		return fmt.Errorf("kind: %q is no name for a cluster: use small letters, digits and -", flags.name)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	switch args[0] {
	case "build":
		return kindBuild(log)
	case "up":
		return kindUp(ctx, flags, log)
	case "load":
		return kindLoad(ctx, flags, log)
	case "run":
		return kindRun(ctx, flags, log)
	case "down":
		return kindDown(flags, log)
	default:
		return errUsage
	}
}

// kindBuild makes what takes long, as far as this machine will need it. It starts no engine.
func kindBuild(log io.Writer) error {
	machine := machineEngine()
	if machine == nil {
		if _, err := enginePrivileges(); err != nil {
			return err
		}
		if _, err := unpackTools(log); err != nil {
			return err
		}
	}
	if _, err := goInstall(kindModule, kindVersion, log); err != nil {
		return err
	}
	if machine != nil && machine.hasImage(usualNode) || registryAnswers() {
		return nil
	}
	_, err := buildNode(log)
	return err
}

func kindUp(ctx context.Context, flags kindFlags, log io.Writer) error {
	if len(flags.rest) > 0 {
		return fmt.Errorf("kind up: unexpected argument %q", flags.rest[0])
	}
	cluster, _, err := bringUp(ctx, flags, log)
	if err != nil {
		return err
	}
	for _, variable := range cluster.variables() {
		fmt.Printf("export %s\n", variable)
	}
	return nil
}

func kindLoad(ctx context.Context, flags kindFlags, log io.Writer) error {
	if len(flags.rest) == 0 {
		return errors.New("kind load: no ARCHIVE given")
	}
	cluster, err := findCluster(flags.name, log)
	if err != nil {
		return err
	}
	if cluster == nil {
		return fmt.Errorf("kind load: there is no cluster %s: start it with `cluster kind up -name %s`", flags.name, flags.name)
	}
	for _, archive := range flags.rest {
		if err := cluster.load(ctx, archive); err != nil {
			return err
		}
	}
	return nil
}

func kindRun(ctx context.Context, flags kindFlags, log io.Writer) (err error) {
	if len(flags.rest) == 0 {
		return errors.New("kind run: no COMMAND given")
	}
	cache, err := cacheFolder()
	if err != nil {
		return err
	}
	// Two that share a cluster would disturb each other, and the first would take it away from the second.
	unlock, err := lockSaying(filepath.Join(cache, "run-"+flags.name+".lock"), log,
		fmt.Sprintf("cluster: waiting for another run that uses the cluster %s", flags.name))
	if err != nil {
		return err
	}
	defer unlock()
	cluster, started, err := bringUp(ctx, flags, log)
	if err != nil {
		return err
	}
	if started && !flags.keep {
		defer func() { err = errors.Join(err, kindDown(flags, log)) }()
	}
	child := exec.Command(flags.rest[0], flags.rest[1:]...)
	child.Stdin = os.Stdin
	child.Env = append(os.Environ(), cluster.variables()...)
	return attend(ctx, child)
}

// bringUp starts the cluster unless it is up, and says whether it did.
func bringUp(ctx context.Context, flags kindFlags, log io.Writer) (cluster *kindCluster, started bool, err error) {
	unlock, err := lockEngines()
	if err != nil {
		return nil, false, err
	}
	defer unlock()
	e, err := findEngine(log)
	if err != nil {
		return nil, false, err
	}
	if cluster, err = newCluster(flags.name, e, log); err != nil {
		return nil, false, err
	}
	nodes, err := cluster.nodes()
	if err != nil {
		return nil, false, err
	}
	if len(nodes) == 0 {
		if err := cluster.create(ctx, flags.nodes); err != nil {
			if ctx.Err() != nil {
				err = errors.New("interrupted")
			}
			return nil, false, errors.Join(err, cluster.remove(), stopIfIdle(e, log))
		}
		return cluster, true, nil
	}
	if _, err := os.Stat(cluster.finished()); err != nil {
		return nil, false, fmt.Errorf("a cluster %s is there that we have not started, or not to its end: `cluster kind down -name %s` takes it away",
			flags.name, flags.name)
	}
	if len(nodes) != flags.nodes {
		return nil, false, fmt.Errorf("the cluster %s is up with %d node(s), not %d: `cluster kind down -name %s` takes it away",
			flags.name, len(nodes), flags.nodes, flags.name)
	}
	return cluster, false, cluster.ready(ctx)
}

// kindDown takes clusters away, and with the last one an engine of our own, or what a crash has left of it.
func kindDown(flags kindFlags, log io.Writer) error {
	unlock, err := lockEngines()
	if err != nil {
		return err
	}
	defer unlock()
	names := []string{flags.name}
	if flags.all {
		if names, err = clusterNames(); err != nil {
			return err
		}
	}
	for _, name := range names {
		cluster, err := findCluster(name, log)
		if err != nil {
			return err
		}
		if cluster == nil {
			fmt.Fprintf(log, "cluster: there is no cluster %s\n", name)
			if err := forgetCluster(name); err != nil {
				return err
			}
			continue
		}
		if err := cluster.remove(); err != nil {
			return err
		}
	}
	t, err := unpackedTools()
	if err != nil {
		return err
	}
	e, err := ownEngine(t)
	if err != nil {
		return err
	}
	return stopIfIdle(e, log)
}

func stopIfIdle(e *engine, log io.Writer) error {
	if e.own == "" {
		return nil
	}
	if _, err := os.Stat(e.own); err != nil || e.answers() && !e.idle() {
		return nil
	}
	fmt.Fprintln(log, "cluster: stopping our Docker engine; nothing uses it any more")
	return e.stop()
}

// lockEngines keeps two of us from starting or ending an engine or a cluster at the same time.
func lockEngines() (unlock func(), err error) {
	cache, err := cacheFolder()
	if err != nil {
		return nil, err
	}
	return lock(filepath.Join(cache, "engine.lock"))
}
