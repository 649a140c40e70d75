package main

import (
	"errors"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A rehearsal starts this program anew, as the program proper does.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "rehearse" {
		if err := rehearseSteps(os.Args[2:], os.Stdout); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestARehearsalLeavesNothing(t *testing.T) {
	cache := t.TempDir()
	links := func() (names []string) {
		found, err := net.Interfaces()
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range found {
			names = append(names, link.Name)
		}
		return names
	}
	before := links()
	// Whether this machine may have a cluster is not ours to say.
	for _, data := range []medium{onDisk, inMemory} {
		if err := rehearseOn(data, cache); err != nil && !errors.Is(err, errUnavailable) {
			t.Error(err)
		}
	}
	if now := links(); slices.Contains(now, "trial-bridge") || slices.Contains(now, "trial-pair") {
		t.Errorf("links before: %q, now: %q", before, now)
	}
	if left, err := os.ReadDir(cache); err != nil || len(left) > 0 {
		t.Errorf("left in the cache: %v, %v", left, err)
	}
}

func TestNobodyRehearsesOutsideOfItsNamespaces(t *testing.T) {
	if err := rehearseSteps([]string{t.TempDir(), string(onDisk)}, os.Stderr); !errors.Is(err, errUsage) {
		t.Errorf("%v", err)
	}
}

func TestAStepThatFailsSaysWhyAndWhatMendsIt(t *testing.T) {
	told := step{what: "fly", mend: "grow wings"}.failed(errors.New("too heavy"))
	if told != "fly here (too heavy); grow wings" {
		t.Errorf("%q", told)
	}
	if told := (step{what: "fly"}).failed(errors.New("x")); !strings.HasSuffix(told, "--privileged") {
		t.Errorf("%q", told)
	}
}

func TestGroupsBelowOneWithProcessesCannotBeHad(t *testing.T) {
	const all = "cpuset cpu io memory pids\n"
	machine := map[string]string{"cgroup.controllers": all, "cgroup.procs": "1\n2\n"}
	container := map[string]string{"cgroup.controllers": all, "cgroup.procs": "1\n", "cgroup.type": "domain\n"}
	with := func(files map[string]string, name, content string) map[string]string {
		changed := maps.Clone(files)
		changed[name] = content
		return changed
	}
	for _, c := range []struct {
		files map[string]string
		told  string
	}{
		{machine, ""},
		{container, "processes run in"},
		{with(container, "cgroup.procs", ""), ""},
		{with(container, "cgroup.subtree_control", all), ""},
		{with(container, "cgroup.subtree_control", "cpu cpuset pids\n"), "memory"},
		{with(machine, "cgroup.controllers", "cpu cpuset memory\n"), "no controller pids"},
	} {
		top := t.TempDir()
		for name, content := range c.files {
			if err := os.WriteFile(filepath.Join(top, name), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		err := tryControlGroups(top, "trial")
		if (c.told == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.told) {
			t.Errorf("%v: %v", c.files, err)
		}
	}
}

func TestControlGroupsOfVersion1AreMadeInEachHierarchy(t *testing.T) {
	top := t.TempDir()
	for _, controller := range []string{"cpu", "cpuacct", "cpuset", "devices", "memory"} {
		if err := os.Mkdir(filepath.Join(top, controller), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := tryControlGroups(top, "trial"); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "/pids/") {
		t.Errorf("%v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(top, "*/*")); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

func TestAFullDiskIsSaid(t *testing.T) {
	if err := roomFor(1, t.TempDir()); err != nil {
		t.Error(err)
	}
	if err := roomFor(1<<62, t.TempDir()); !errors.Is(err, errUnavailable) || !strings.Contains(err.Error(), "XDG_CACHE_HOME") {
		t.Errorf("%v", err)
	}
}

func TestAttributesAreFilledUpToFourBytes(t *testing.T) {
	encoded := attribute(linkName, []byte("lo\x00"))
	if len(encoded) != 8 || string(encoded[4:]) != "lo\x00\x00" {
		t.Errorf("%q", encoded)
	}
	// As many as it has, the last fill not among them.
	if length := encoded[0] + encoded[1]; length != 7 {
		t.Errorf("%d", length)
	}
}

func TestMemoryIsWhatTheMachineHasOrTheContainerMayTake(t *testing.T) {
	meminfo := filepath.Join(t.TempDir(), "meminfo")
	if err := os.WriteFile(meminfo, []byte("MemTotal:  9 kB\nMemAvailable:    2048 kB\nBuffers: 1 kB\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		file, limit string
		want        uint64
	}{
		{"memory.max", "max\n", 2 << 20},
		{"memory.max", "1048576\n", 1 << 20},
		{"memory/memory.limit_in_bytes", "4096\n", 4096},
		{"memory/memory.limit_in_bytes", "9223372036854771712\n", 2 << 20},
	} {
		top := t.TempDir()
		if err := os.MkdirAll(filepath.Join(top, "memory"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(top, c.file), []byte(c.limit), 0o644); err != nil {
			t.Fatal(err)
		}
		if free := freeMemory(meminfo, top); free != c.want {
			t.Errorf("%s %q: %d", c.file, c.limit, free)
		}
	}
	if free := freeMemory("/nowhere", "/nowhere"); free != 0 {
		t.Errorf("%d", free)
	}
}
