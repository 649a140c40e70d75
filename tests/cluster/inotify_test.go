package main

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestInstancesAreCountedAndClosed(t *testing.T) {
	open := map[int]bool{}
	limited := func() (int, error) {
		if len(open) == 3 {
			return 0, errors.New("too many open files")
		}
		open[len(open)] = true
		return len(open) - 1, nil
	}
	closeOne := func(descriptor int) error {
		delete(open, descriptor)
		return nil
	}
	for most, want := range []int{0, 1, 2, 3, 3, 3} {
		if free := countInotify(most, limited, closeOne); free != want || len(open) > 0 {
			t.Errorf("of %d: %d, and %d stayed open", most, free, len(open))
		}
	}
}

func TestTheLimitIsRaisedAndNeverLowered(t *testing.T) {
	for was, want := range map[string]string{"128\n": "512\n", "511\n": "512\n", "512\n": "512\n", "8192\n": "8192\n"} {
		settings := t.TempDir()
		file := filepath.Join(settings, inotifyInstances)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(was), 0o644); err != nil {
			t.Fatal(err)
		}
		before := readSettings(settings)
		raiseInotify(settings)
		if now, _ := os.ReadFile(file); string(now) != want {
			t.Errorf("%q became %q", was, now)
		}
		if err := restoreSettings(settings, before); err != nil {
			t.Fatal(err)
		}
		if now, _ := os.ReadFile(file); string(now) != was {
			t.Errorf("%q was put back as %q", was, now)
		}
	}
	raiseInotify(t.TempDir()) // a kernel without
}
