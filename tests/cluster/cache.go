package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// cacheFolder is where everything is kept that is worth keeping from one run to the next.
func cacheFolder() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache folder: %w", err)
	}
	cache = filepath.Join(cache, "portcullis")
	return cache, os.MkdirAll(cache, 0o755)
}

// once gives the cache's folder of this name, and lets fill make it if it is not there yet. A lock lets
// a second run wait for the first instead of doing the same again, and a rename puts the folder in
// place, so that it is either whole or absent.
func once(name string, fill func(folder string) error) (string, error) {
	cache, err := cacheFolder()
	if err != nil {
		return "", err
	}
	folder := filepath.Join(cache, name)
	if _, err := os.Stat(folder); err == nil {
		return folder, nil
	}
	unlock, err := lock(folder + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(folder); err == nil {
		return folder, nil
	}
	temporary, err := os.MkdirTemp(cache, "building-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temporary)
	if err := fill(temporary); err != nil {
		return "", err
	}
	// MkdirTemp makes a folder for its owner alone; a cache may be shared.
	if err := os.Chmod(temporary, 0o755); err != nil {
		return "", err
	}
	return folder, os.Rename(temporary, folder)
}

// lock waits until no other process holds this file's lock. The kernel gives it up for a process that ends.
func lock(path string) (unlock func(), err error) {
	return lockSaying(path, io.Discard, "")
}

// lockSaying is lock, and says so if it has to wait.
func lockSaying(path string, log io.Writer, waiting string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	descriptor := int(file.Fd())
	if err = syscall.Flock(descriptor, syscall.LOCK_EX|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
		fmt.Fprintln(log, waiting)
		err = syscall.Flock(descriptor, syscall.LOCK_EX)
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { file.Close() }, nil
}

// fingerprint is short, and another for each content of these files.
func fingerprint(folder string, names ...string) (string, error) {
	sum := sha256.New()
	for _, name := range names {
		content, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%s %d\n%s", name, len(content), content)
	}
	return fmt.Sprintf("%x", sum.Sum(nil))[:12], nil
}

// clusterFolder is where a cluster's own files are.
func clusterFolder(name string) (string, error) {
	cache, err := cacheFolder()
	return filepath.Join(cache, "clusters", name), err
}

// forgetCluster removes what is left of a cluster that is not there.
func forgetCluster(name string) error {
	folder, err := clusterFolder(name)
	if err != nil {
		return err
	}
	return os.RemoveAll(folder)
}

// clusterNames are those of the clusters that we have started and not taken away.
func clusterNames() ([]string, error) {
	folder, err := clusterFolder("")
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	names := make([]string, len(entries))
	for i, entry := range entries {
		names[i] = entry.Name()
	}
	return names, err
}
