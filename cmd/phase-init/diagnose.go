package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/phasebased/phase/internal/bootcfg"
)

// Bounds on what is saved, in bytes and files.
const (
	maxDiagnostic = 4 << 20 // one file
	maxStageFiles = 200
)

// diagnostic is one file of what is saved.
type diagnostic struct {
	name string
	data []byte
}

// secrets are what must not be saved, wherever it stands.
func secrets(n bootcfg.Network, t bootcfg.Tor) (list []string) {
	for _, w := range n.WiFi.Networks {
		list = append(list, string(w.Passphrase))
	}
	if full, shown := string(n.Proxy), n.Proxy.String(); full != shown {
		list = append(list, full)
		if _, rest, ok := strings.Cut(full, "://"); ok {
			user, _, _ := strings.Cut(rest, "@")
			_, password, _ := strings.Cut(user, ":")
			list = append(list, user, password)
		}
	}
	list = slices.Concat(list, t.Bridges, t.Extra)
	return slices.DeleteFunc(list, func(s string) bool { return len(s) < 4 }) // a letter stands everywhere
}

// redact takes secrets out of a text.
func redact(data []byte, secrets []string) []byte {
	for _, s := range secrets {
		data = bytes.ReplaceAll(data, []byte(s), []byte("[removed]"))
	}
	return data
}

// tail keeps the end of a text that is too long: the last lines tell most.
func tail(data []byte, most int) []byte {
	if len(data) <= most {
		return data
	}
	return append([]byte("[cut]\n"), data[len(data)-most:]...)
}

// stageFiles reads the records of the stages, and nothing else that lies there.
func stageFiles(dir fs.FS) (files []diagnostic) {
	names, err := fs.Glob(dir, "*.json")
	if err != nil {
		return nil
	}
	for _, name := range names[:min(len(names), maxStageFiles)] {
		f, err := dir.Open(name)
		if err != nil {
			continue
		}
		data, err := io.ReadAll(io.LimitReader(f, maxDiagnostic))
		f.Close()
		if err == nil {
			files = append(files, diagnostic{path.Join("stages", name), data})
		}
	}
	return files
}

// pack writes files as a .tar.gz whose one folder has the given name.
func pack(folder string, files []diagnostic, secrets []string, at time.Time) ([]byte, error) {
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	archive := tar.NewWriter(zip)
	for _, f := range files {
		data := redact(tail(f.data, maxDiagnostic), secrets)
		err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: path.Join(folder, f.name), Mode: 0o644, Size: int64(len(data)), ModTime: at, Format: tar.FormatUSTAR})
		if err == nil {
			_, err = archive.Write(data)
		}
		if err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.name, err)
		}
	}
	if err := archive.Close(); err != nil {
		return nil, err
	}
	if err := zip.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
