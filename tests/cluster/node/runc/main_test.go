package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// lacking is a host without CAP_SYS_RESOURCE, CAP_SYS_TIME and nothing else.
func lacking(t *testing.T) host {
	t.Helper()
	here, err := readHost("Name:\trunc\nCapBnd:\t000001fffcffffff\nSeccomp:\t0\n", "-500\n")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{"CAP_SYS_RESOURCE": true, "CAP_SYS_TIME": true}
	if !reflect.DeepEqual(here.lacks, want) || here.oomScoreAdj != -500 {
		t.Fatalf("%+v", here)
	}
	return here
}

func TestAContainerAsksForNoMoreThanThereIs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.json")
	write(t, file, `{"hostname": "h", "process": {"args": ["x"], "oomScoreAdj": -998, "rlimits": [{"type": "RLIMIT_NOFILE"}],
		"capabilities": {"bounding": ["CAP_CHOWN", "CAP_SYS_RESOURCE", "CAP_SYS_TIME"], "ambient": []}}}`)
	if err := lacking(t).rewrite(file, false); err != nil {
		t.Fatal(err)
	}
	expect(t, file, `{"hostname": "h", "process": {"args": ["x"], "oomScoreAdj": -500,
		"capabilities": {"bounding": ["CAP_CHOWN"], "ambient": []}}}`)
}

func TestAProcessInAContainerIsHeldToTheSame(t *testing.T) {
	file := filepath.Join(t.TempDir(), "process.json")
	write(t, file, `{"args": ["x"], "oomScoreAdj": 900, "capabilities": {"effective": ["CAP_SYS_TIME"]}}`)
	if err := lacking(t).rewrite(file, true); err != nil {
		t.Fatal(err)
	}
	expect(t, file, `{"args": ["x"], "oomScoreAdj": 900, "capabilities": {"effective": []}}`)
}

func TestTheSpecificationIsFoundInTheArguments(t *testing.T) {
	for _, call := range []struct {
		args        []string
		file        string
		processOnly bool
	}{
		{[]string{"--root", "/r", "create", "--bundle", "/b", "id"}, "/b/config.json", false},
		{[]string{"run", "--bundle=/b", "id"}, "/b/config.json", false},
		{[]string{"create", "id"}, "config.json", false},
		{[]string{"exec", "--process", "/p.json", "id"}, "/p.json", true},
		{[]string{"exec", "id", "sh"}, "", true},
		{[]string{"delete", "id"}, "", false},
	} {
		if file, processOnly := specification(call.args); file != call.file || processOnly != call.processOnly {
			t.Errorf("%q: %q, %v", call.args, file, processOnly)
		}
	}
}

func TestTheRealProgramIsTheNextInThePath(t *testing.T) {
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	first, second := t.TempDir(), t.TempDir()
	if err := os.Symlink(own, filepath.Join(first, "runc")); err != nil {
		t.Fatal(err)
	}
	if real, err := behind(first); err == nil {
		t.Errorf("would call itself for ever: %s", real)
	}
	write(t, filepath.Join(second, "runc"), "")
	if real, err := behind(first + ":" + second); err != nil || real != filepath.Join(second, "runc") {
		t.Errorf("%q, %v", real, err)
	}
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func expect(t *testing.T, file, want string) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got, wanted any
	if err := json.Unmarshal(content, &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(want), &wanted); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, wanted) {
		t.Errorf("%s, not %s", content, want)
	}
}
