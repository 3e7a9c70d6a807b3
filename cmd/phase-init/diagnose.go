package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
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
			if plain, err := url.PathUnescape(password); err == nil {
				list = append(list, plain)
			}
		}
	}
	for _, line := range slices.Concat(t.Bridges, t.Extra) {
		for _, word := range strings.Fields(line) { // Tor's own messages name an address, or a fingerprint
			host, _, err := net.SplitHostPort(word)
			list = append(list, word)
			if err == nil {
				list = append(list, host)
			}
		}
	}
	list = slices.DeleteFunc(list, func(s string) bool { return len(s) < 4 }) // a letter stands everywhere
	for _, s := range slices.Clone(list) {
		list = append(list, escaped(s)...)
	}
	slices.SortFunc(list, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) }) // the whole before its parts
	return slices.Compact(list)
}

// escaped is a text as logs and JSON write it.
func escaped(s string) []string {
	quoted := strconv.Quote(s)
	list := []string{quoted[1 : len(quoted)-1]}
	if data, err := json.Marshal(s); err == nil {
		list = append(list, string(data[1:len(data)-1]))
	}
	return list
}

const removed = "[removed]"

var (
	// userInURL is what stands before the host of a URL: of a server that nobody
	// knows of here, or of a line that could not be read.
	userInURL = regexp.MustCompile(`(://)[^/\s"'<>]*@`)
	// proxyWord is an option that may hold a password in any form. The kernel keeps
	// the quotes around its value, or around all of it.
	proxyWord = regexp.MustCompile(`(?i)("phase\.proxy=)[^"\n]*|(\bphase\.proxy=)("[^"\n]*"?|[^\s"]+)`)
	// hardwareAddress is six bytes, of which the first three are the maker's.
	hardwareAddress = regexp.MustCompile(`(?i)\b([0-9a-f]{2}[:-][0-9a-f]{2}[:-][0-9a-f]{2})(?:[:-][0-9a-f]{2}){3}\b`)
)

// redactor takes out of a text what nobody else is to know.
type redactor struct {
	secrets []string
	private bool // hardware addresses as well
}

func (r redactor) redact(data []byte) []byte {
	for _, s := range r.secrets {
		data = bytes.ReplaceAll(data, []byte(s), []byte(removed))
	}
	data = proxyWord.ReplaceAll(data, []byte("$1$2"+removed))
	data = userInURL.ReplaceAll(data, []byte("$1"+removed+"@"))
	if r.private {
		data = hardwareAddress.ReplaceAll(data, []byte("$1:xx:xx:xx"))
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
func pack(folder string, files []diagnostic, r redactor, at time.Time) ([]byte, error) {
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	archive := tar.NewWriter(zip)
	for _, f := range files {
		data := r.redact(tail(f.data, maxDiagnostic))
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
