package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheStartTimeIsFoundBehindAnyName(t *testing.T) {
	// The name of a process may hold spaces and parentheses.
	const rest = " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21"
	for _, name := range []string{"sh", "a b", ") S 1 ("} {
		started, err := parseStartTime("42 (" + name + ")" + rest)
		if err != nil || started != "4711" {
			t.Errorf("%q: %q, %v", name, started, err)
		}
	}
	if _, err := parseStartTime("42 (sh)" + strings.Replace(rest, "S", "Z", 1)); err == nil {
		t.Error("a process that is only not yet reaped still runs")
	}
	if _, err := parseStartTime("42 (sh) S 1"); err == nil {
		t.Error("read a start time that is not there")
	}
}

func TestOnlyTheProcessThatWasStartedIsEnded(t *testing.T) {
	child := exec.Command("sleep", "600")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	started, err := startTime(child.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	// The PID is right, but it was another process's then.
	if err := end(child.Process.Pid, started+"0"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		t.Fatalf("ended a process that is not ours: %v", err)
	default:
	}
	if err := end(child.Process.Pid, started); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil || err.Error() != "signal: terminated" {
		t.Errorf("%v", err)
	}
}

func TestControlGroupsOfThisNameAreRemovedInEveryHierarchy(t *testing.T) {
	root := t.TempDir()
	for _, path := range []string{"memory/ours/a/b", "cpu/ours", "ours/c", "memory/others/a"} {
		if err := os.MkdirAll(filepath.Join(root, path), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	removeControlGroups(root, "ours")
	left, err := filepath.Glob(filepath.Join(root, "*/*"))
	if err != nil || len(left) != 1 || left[0] != filepath.Join(root, "memory/others") {
		t.Errorf("left: %q, %v", left, err)
	}
}

func TestTheNameOfTheLinkIsOneThatTheKernelTakes(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	e, err := ownEngine("")
	if err != nil {
		t.Fatal(err)
	}
	if link := e.link(); len(link) > 15 || !strings.HasPrefix(link, "pc-") {
		t.Errorf("%q", link)
	}
}

func TestTheLastEnginePutsTheMachinesSettingsBack(t *testing.T) {
	run := t.TempDir()
	here, there := &engine{own: filepath.Join(run, "portcullis-a")}, &engine{own: filepath.Join(run, "portcullis-b")}
	started, err := startTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for e, state := range map[*engine]string{
		here:  fmt.Sprintf(`{"pid": %d, "started": %q, "settings": {"kernel/panic": "0"}}`, os.Getpid(), started),
		there: fmt.Sprintf(`{"pid": %d, "started": "%s0"}`, os.Getpid(), started), // it has ended
	} {
		if err := os.MkdirAll(e.own, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(e.stateFile(), []byte(state), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if others := here.others(); len(others) > 0 {
		t.Errorf("%+v", others[0])
	}
	if others := there.others(); len(others) != 1 || others[0].Settings["kernel/panic"] != "0" {
		t.Errorf("%v", others)
	}
}
