package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fakeBuild is a small source tree, an empty cache, and a program `go` first in PATH that counts its calls
// and then does what the shell lines say, with the folder to fill as $out.
func fakeBuild(t *testing.T, lines string) (cache, calls string) {
	t.Helper()
	root := t.TempDir()
	cache, calls = filepath.Join(root, "portcullis"), filepath.Join(root, "calls")
	files := map[string]string{
		"source/go.mod":          "module fake\n\nrequire (\n\tk8s.io/kubernetes v1.2.3\n)\n",
		"source/go.sum":          "",
		"source/programs.go":     "package main\n",
		"source/kube/main.go":    "package main\n",
		"source/kubectl/main.go": "package main\n",
		"bin/go":                 "#!/bin/sh\necho call >>'" + calls + "'\nwhile [ \"$1\" != -o ]; do shift; done\nout=$2\n" + lines + "\n",
		"calls":                  "",
	}
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("CLUSTER_SOURCE", filepath.Join(root, "source"))
	t.Setenv("XDG_CACHE_HOME", root)
	t.Setenv("PATH", filepath.Join(root, "bin")+":"+os.Getenv("PATH"))
	return cache, calls
}

func count(t *testing.T, calls string) int {
	t.Helper()
	content, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(content, []byte("call\n"))
}

// eventually looks until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for begun := time.Now(); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begun) > time.Minute {
			t.Fatalf("gave up waiting for %s", what)
		}
	}
}

// isAwaited says whether somebody waits for this lock: the kernel lists them with an arrow.
func isAwaited(t *testing.T, lock string) bool {
	t.Helper()
	info, err := os.Stat(lock)
	if err != nil {
		return false
	}
	inode := fmt.Sprintf(":%d ", info.Sys().(*syscall.Stat_t).Ino)
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(locks), "\n") {
		if strings.Contains(line, "->") && strings.Contains(line, inode) {
			return true
		}
	}
	return false
}

func TestTwoBuildsAtOnceBuildOnce(t *testing.T) {
	// The build ends when it has read a line from the pipe.
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	cache, calls := fakeBuild(t, "read line <'"+pipe+"'\necho program | tee \"$out/kube\" >\"$out/kubectl\"")
	type result struct {
		folder string
		err    error
	}
	results := make(chan result, 2)
	for range 2 {
		go func() {
			folder, err := buildOnce(io.Discard)
			results <- result{folder, err}
		}()
	}
	release, err := os.OpenFile(pipe, os.O_WRONLY, 0) // waits for the first reader
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the second build to wait or to begin", func() bool {
		locks, err := filepath.Glob(filepath.Join(cache, "*.lock"))
		if err != nil {
			t.Fatal(err)
		}
		return count(t, calls) > 1 || len(locks) == 1 && isAwaited(t, locks[0])
	})
	if folders, _ := filepath.Glob(filepath.Join(cache, "kubernetes-1.2.3-*[0-9a-f]")); len(folders) != 0 {
		t.Errorf("in place before it is whole: %q", folders)
	}
	if _, err := release.WriteString("go on\ngo on\n"); err != nil {
		t.Fatal(err)
	}
	release.Close()
	first, second := <-results, <-results
	if first != second || first.err != nil {
		t.Fatalf("%+v and %+v", first, second)
	}
	if built := count(t, calls); built != 1 {
		t.Errorf("built %d times", built)
	}
	for _, name := range programNames {
		if _, err := os.Stat(filepath.Join(first.folder, name)); err != nil {
			t.Error(err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(cache, "building-*")); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
	// A third finds it.
	if folder, err := buildOnce(io.Discard); folder != first.folder || err != nil || count(t, calls) != 1 {
		t.Errorf("%q, %v, after %d builds", folder, err, count(t, calls))
	}
}

func TestABuildThatFailsLeavesNothingBehind(t *testing.T) {
	cache, calls := fakeBuild(t, "echo half >\"$out/kube\"\n[ \"$(wc -l <\"$(dirname \"$0\")/../calls\")\" -gt 1 ]")
	if folder, err := buildOnce(io.Discard); err == nil {
		t.Fatalf("a failed build gave %q", folder)
	}
	left, err := filepath.Glob(filepath.Join(cache, "*"))
	if err != nil || len(left) != 1 || !strings.HasSuffix(left[0], ".lock") {
		t.Errorf("left behind: %q, %v", left, err)
	}
	// The lock is free again.
	if _, err := buildOnce(io.Discard); err != nil || count(t, calls) != 2 {
		t.Errorf("%v, after %d builds", err, count(t, calls))
	}
}
