// Command runc stands before the real runc where root lacks privileges that container engines take for
// granted, as in some small virtual machines: it takes out of a container's specification what the
// kernel would refuse anyway. With all privileges in hand it changes nothing.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// capabilities in the kernel's order (linux/capability.h).
var capabilities = strings.Fields(`CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP
	LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO
	SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE
	AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON
	BPF CHECKPOINT_RESTORE`)

// host is what this process has to give.
type host struct {
	// lacks holds the capabilities outside our bounding set, as CAP_NAME
	lacks       map[string]bool
	oomScoreAdj int
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "runc (wrapper):", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	score, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		return err
	}
	here, err := readHost(string(status), string(score))
	if err != nil {
		return err
	}
	if file, processOnly := specification(args); file != "" && len(here.lacks) > 0 {
		if err := here.rewrite(file, processOnly); err != nil {
			return err
		}
	}
	real, err := behind(os.Getenv("PATH"))
	if err != nil {
		return err
	}
	return syscall.Exec(real, append([]string{"runc"}, args...), os.Environ())
}

// behind finds the first runc in PATH that is not this program.
func behind(path string) (string, error) {
	own, err := os.Executable()
	if err != nil {
		return "", err
	}
	for _, folder := range filepath.SplitList(path) {
		real, err := filepath.EvalSymlinks(filepath.Join(folder, "runc"))
		if err == nil && real != own {
			return real, nil
		}
	}
	return "", fmt.Errorf("found no other runc in %s", path)
}

// readHost reads /proc/self/status and /proc/self/oom_score_adj.
func readHost(status, score string) (host, error) {
	here := host{lacks: map[string]bool{}}
	_, rest, found := strings.Cut(status, "CapBnd:")
	if !found {
		return here, fmt.Errorf("/proc/self/status has no CapBnd")
	}
	bounding, err := strconv.ParseUint(strings.Fields(rest)[0], 16, 64)
	if err != nil {
		return here, fmt.Errorf("CapBnd in /proc/self/status: %w", err)
	}
	for i, name := range capabilities {
		if bounding>>i&1 == 0 {
			here.lacks["CAP_"+name] = true
		}
	}
	here.oomScoreAdj, err = strconv.Atoi(strings.TrimSpace(score))
	return here, err
}

// specification names the file that says what a container, or a process to start in one, asks for.
func specification(args []string) (file string, processOnly bool) {
	option := func(long, short, otherwise string) string {
		for i, arg := range args {
			if value, found := strings.CutPrefix(arg, long+"="); found {
				return value
			}
			if (arg == long || arg == short) && i+1 < len(args) {
				return args[i+1]
			}
		}
		return otherwise
	}
	for _, arg := range args {
		switch arg {
		case "create", "run":
			return filepath.Join(option("--bundle", "-b", "."), "config.json"), false
		case "exec":
			return option("--process", "-p", ""), true
		}
	}
	return "", false
}

func (here host) rewrite(file string, processOnly bool) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var document map[string]any
	if err := json.Unmarshal(content, &document); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	process := document
	if !processOnly {
		process, _ = document["process"].(map[string]any)
	}
	here.restrict(process)
	if content, err = json.Marshal(document); err != nil {
		return err
	}
	return os.WriteFile(file, content, 0o600)
}

// restrict leaves of a process's wishes what can be had here. A nil process has none.
func (here host) restrict(process map[string]any) {
	sets, _ := process["capabilities"].(map[string]any)
	for name, set := range sets {
		wanted, _ := set.([]any)
		kept := []any{}
		for _, capability := range wanted {
			if text, _ := capability.(string); !here.lacks[text] {
				kept = append(kept, capability)
			}
		}
		sets[name] = kept
	}
	if !here.lacks["CAP_SYS_RESOURCE"] {
		return
	}
	// Raising a limit and lowering the score both take this capability.
	delete(process, "rlimits")
	if wanted, ok := process["oomScoreAdj"].(float64); ok && int(wanted) < here.oomScoreAdj {
		process["oomScoreAdj"] = here.oomScoreAdj
	}
}
