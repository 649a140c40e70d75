package main

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
)

// image is what makes a container image of a root file system: its name, and how it is started.
type image struct {
	name       string
	entrypoint []string
	env        []string
	stopSignal string
}

// The file of the archive that holds the one layer.
const layerName = "layer.tar"

// writeArchive writes what `docker load` and `ctr images import` read: images that share one layer, the
// tar archive in the file layer. It needs no engine, and `docker import` can set no STOPSIGNAL.
func writeArchive(path, layer string, images ...image) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	content, err := os.Open(layer)
	if err != nil {
		return err
	}
	defer content.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, content)
	if err != nil {
		return err
	}
	if _, err := content.Seek(0, io.SeekStart); err != nil {
		return err
	}
	archive := tar.NewWriter(file)
	if err := writeImages(archive, fmt.Sprintf("sha256:%x", sum.Sum(nil)), images); err != nil {
		return err
	}
	if err := archive.WriteHeader(&tar.Header{Name: layerName, Mode: 0o644, Size: size}); err != nil {
		return err
	}
	if _, err := io.Copy(archive, content); err != nil {
		return err
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return file.Close()
}

// writeImages writes each image's configuration, and the manifest that names them.
func writeImages(archive *tar.Writer, layerDigest string, images []image) error {
	type object = map[string]any
	var manifest []object
	for _, image := range images {
		config := object{
			"architecture": runtime.GOARCH,
			"os":           "linux",
			"config":       object{"Entrypoint": image.entrypoint, "Env": image.env, "StopSignal": image.stopSignal},
			"rootfs":       object{"type": "layers", "diff_ids": []string{layerDigest}},
		}
		content, err := json.Marshal(config)
		if err != nil {
			return err
		}
		name := fmt.Sprintf("%x.json", sha256.Sum256(content))
		if err := writeFile(archive, name, content); err != nil {
			return err
		}
		manifest = append(manifest, object{"Config": name, "RepoTags": []string{image.name}, "Layers": []string{layerName}})
	}
	content, err := json.Marshal(manifest)
	if err != nil {
		return err
	}
	return writeFile(archive, "manifest.json", content)
}

func writeFile(archive *tar.Writer, name string, content []byte) error {
	if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
		return err
	}
	_, err := archive.Write(content)
	return err
}
