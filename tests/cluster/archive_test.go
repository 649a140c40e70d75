package main

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestAnArchiveHoldsItsImagesAndTheirOneLayer(t *testing.T) {
	folder := t.TempDir()
	layer := filepath.Join(folder, "layer")
	if err := os.WriteFile(layer, []byte("files"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, "archive.tar")
	err := writeArchive(path, layer,
		image{name: "one:1", entrypoint: []string{"/one"}, stopSignal: "SIGRTMIN+3"},
		image{name: "two:2", env: []string{"PATH=/bin"}})
	if err != nil {
		t.Fatal(err)
	}
	files := readTar(t, path)
	if string(files["layer.tar"]) != "files" {
		t.Errorf("layer.tar: %q", files["layer.tar"])
	}
	var manifest []struct {
		Config           string
		RepoTags, Layers []string
	}
	if err := json.Unmarshal(files["manifest.json"], &manifest); err != nil || len(manifest) != 2 {
		t.Fatalf("%v in %s", err, files["manifest.json"])
	}
	for i, name := range []string{"one:1", "two:2"} {
		if !slices.Equal(manifest[i].RepoTags, []string{name}) || !slices.Equal(manifest[i].Layers, []string{"layer.tar"}) {
			t.Errorf("%+v", manifest[i])
		}
		var config struct {
			Config struct {
				Entrypoint, Env []string
				StopSignal      string
			}
			Rootfs struct {
				DiffIDs []string `json:"diff_ids"`
			}
		}
		if err := json.Unmarshal(files[manifest[i].Config], &config); err != nil {
			t.Fatal(err)
		}
		if digest := fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("files"))); !slices.Equal(config.Rootfs.DiffIDs, []string{digest}) {
			t.Errorf("%s: layers %q, not %s", name, config.Rootfs.DiffIDs, digest)
		}
		if name == "one:1" && (config.Config.StopSignal != "SIGRTMIN+3" || !slices.Equal(config.Config.Entrypoint, []string{"/one"})) {
			t.Errorf("%+v", config)
		}
		if name == "two:2" && !slices.Equal(config.Config.Env, []string{"PATH=/bin"}) {
			t.Errorf("%+v", config)
		}
	}
}

func readTar(t *testing.T, path string) map[string][]byte {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	files := map[string][]byte{}
	for archive := tar.NewReader(file); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[header.Name], err = io.ReadAll(archive); err != nil {
			t.Fatal(err)
		}
	}
}
