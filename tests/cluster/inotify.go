package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

const (
	// How many instances of inotify each user may have: 128 by default, for all nodes and whatever else root runs. When
	// they are used up, systemd, kubelet or a pod says "too many open files", or nothing at all. It is among kind's
	// known issues, which advise 512.
	inotifyInstances = "fs/inotify/max_user_instances"
	// A node takes 14 and a control plane 13 more; the rest is for pods.
	inotifyPerNode = 20
	inotifyBeside  = 20
)

// raiseInotify raises the limit unless it is high enough. Where that cannot be, there may be room all the same.
func raiseInotify(settings string) {
	now, known := inotifyLimit(settings)
	wanted := machineSettings[inotifyInstances]
	if enough, err := strconv.Atoi(wanted); err == nil && known && now < enough {
		_ = os.WriteFile(filepath.Join(settings, inotifyInstances), []byte(wanted+"\n"), 0o644)
	}
}

func inotifyLimit(settings string) (limit int, known bool) {
	limit, err := strconv.Atoi(readSettings(settings)[inotifyInstances])
	return limit, err == nil
}

// requireInotify says, before nodes start, that they will not find enough. They run as root: only root can try.
func requireInotify(nodes int, root bool, log io.Writer) error {
	limit, known := inotifyLimit("/proc/sys")
	mend := fmt.Sprintf("sudo sysctl fs.inotify.max_user_instances=%d", limit+512)
	if !root {
		if known && limit <= 128 {
			fmt.Fprintf(log, "cluster: if nodes fail with \"too many open files\": %s\n", mend)
		}
		return nil
	}
	wanted := inotifyBeside + nodes*inotifyPerNode
	free := countInotify(wanted, func() (int, error) { return syscall.InotifyInit1(syscall.IN_CLOEXEC) }, syscall.Close)
	if free < wanted {
		return fmt.Errorf("%w: its nodes need about %d instances of inotify, and of the %d that root may have only %d are left; "+
			"this mends it: %s", errUnavailable, wanted, limit, free, mend)
	}
	return nil
}

// countInotify opens so many, at most, and closes them.
func countInotify(most int, open func() (int, error), closeOne func(int) error) int {
	for opened := range most {
		descriptor, err := open()
		if err != nil {
			return opened
		}
		defer closeOne(descriptor)
	}
	return most
}
