package main

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCapabilitiesAreReadFromTheEffectiveSet(t *testing.T) {
	// Root of a small virtual machine: all but CAP_SYS_RESOURCE.
	capabilities, err := parseCapabilities("Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t000001fffeffffff\nCapBnd:\t0000000000000000\n")
	if err != nil {
		t.Fatal(err)
	}
	rights := privileges{root: true, capabilities: capabilities}
	if rights.has(capSysResource) || !rights.has(capSysAdmin) || !rights.has(capMknod) {
		t.Errorf("%x", capabilities)
	}
	if err := rights.forEngine(); err != nil {
		t.Errorf("an engine needs no more: %v", err)
	}
	if _, err := parseCapabilities("Name:\tx\n"); err == nil {
		t.Error("read capabilities from a status without any")
	}
}

func TestWithoutRightsTheMessageSaysWhatIsMissing(t *testing.T) {
	all := ^uint64(0)
	for _, missing := range []struct {
		rights privileges
		told   string
	}{
		{privileges{root: false, capabilities: all}, "takes root"},
		{privileges{root: true, capabilities: all &^ (1 << capSysAdmin)}, "CAP_SYS_ADMIN"},
		{privileges{root: true, capabilities: all &^ (1 << capNetAdmin)}, "CAP_NET_ADMIN"},
	} {
		err := missing.rights.forEngine()
		if !errors.Is(err, errUnavailable) || !strings.Contains(err.Error(), missing.told) {
			t.Errorf("%+v: %v", missing.rights, err)
		}
	}
	none := privileges{root: true}.forEngine()
	if !strings.Contains(none.Error(), "CAP_NET_ADMIN and CAP_SYS_CHROOT and CAP_SYS_ADMIN and CAP_MKNOD") {
		t.Errorf("%v", none)
	}
	for _, rights := range []privileges{{root: false, capabilities: all}, {root: true, capabilities: all &^ (1 << capMknod)}} {
		if err := rights.forNode(); !errors.Is(err, errUnavailable) {
			t.Errorf("%+v: %v", rights, err)
		}
	}
	if err := (privileges{root: true, capabilities: 1<<capSysChroot | 1<<capMknod}).forNode(); err != nil {
		t.Errorf("a node takes no more to build: %v", err)
	}
}

func TestOnlySettingsThatNobodyElseChangedArePutBack(t *testing.T) {
	folder := t.TempDir()
	set := func(name, value string) {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(value+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	set("kernel/panic", "0")
	set("vm/overcommit_memory", "0")
	set("vm/panic_on_oom", "1")
	before := readSettings(folder)
	set("kernel/panic", "10")
	set("vm/overcommit_memory", "2") // somebody else
	if err := restoreSettings(folder, before); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"kernel/panic": "0", "vm/overcommit_memory": "2", "vm/panic_on_oom": "1"}
	if now := readSettings(folder); !maps.Equal(now, want) {
		t.Errorf("%v, not %v", now, want)
	}
}
