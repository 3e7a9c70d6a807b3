package fetch

import (
	"context"
	"crypto/sha256"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkFile is a download into a sealed memory file, BenchmarkPlain the
// least that any program could do for the same: copy into a memory file and
// hash, without sealing, checks or time-outs. Server and client share the
// processors.
const benchSize = 256 << 20

// benchServer sends a file the way providers do.
func benchServer(b *testing.B) (string, job) {
	b.Helper()
	data := content(benchSize)
	path := filepath.Join(b.TempDir(), "blob")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		b.Fatal(err)
	}
	url := serve(b, func(w http.ResponseWriter, r *http.Request) {
		f, err := os.Open(path)
		if err != nil {
			return
		}
		defer f.Close()
		http.ServeContent(w, r, "", time.Time{}, f)
	})
	b.SetBytes(benchSize)
	return url, jobFor(data, url)
}

func BenchmarkFile(b *testing.B) {
	_, j := benchServer(b)
	f := quick(b)
	for b.Loop() {
		file, err := f.file(context.Background(), j)
		if err != nil {
			b.Fatal(err)
		}
		file.Close()
	}
}

// BenchmarkChunked is BenchmarkFile with a chunk list.
func BenchmarkChunked(b *testing.B) {
	url, _ := benchServer(b)
	j := chunkedJob(b, content(benchSize), url)
	f := quick(b)
	for b.Loop() {
		file, err := f.file(context.Background(), j)
		if err != nil {
			b.Fatal(err)
		}
		file.Close()
	}
}

// BenchmarkToDisk is BenchmarkChunked into a file that survives a power cut.
func BenchmarkToDisk(b *testing.B) {
	url, _ := benchServer(b)
	j := chunkedJob(b, content(benchSize), url)
	f, path := quick(b), filepath.Join(b.TempDir(), "file")
	for b.Loop() {
		if err := f.toPath(context.Background(), j, path); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPlain(b *testing.B) {
	url, _ := benchServer(b)
	client := NewClient(nil, nil)
	defer client.CloseIdleConnections()
	for b.Loop() {
		mem, err := newMemory("bench", benchSize)
		if err != nil {
			b.Fatal(err)
		}
		resp, err := client.Get(url)
		if err != nil {
			b.Fatal(err)
		}
		h := sha256.New()
		if _, err := io.Copy(io.MultiWriter(mem.file, h), resp.Body); err != nil {
			b.Fatal(err)
		}
		h.Sum(nil)
		resp.Body.Close()
		mem.Close()
	}
}

func BenchmarkHash(b *testing.B) {
	data := content(benchSize)
	b.SetBytes(benchSize)
	for b.Loop() {
		sha256.Sum256(data)
	}
}
