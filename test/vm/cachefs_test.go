package vm_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/phasebased/phase/blob"
)

// blockSize is that of the cache's file system, in bytes.
const blockSize = 4096

// readCache is the medium's cache partition.
func (b *bench) readCache() []byte {
	b.Helper()
	image, err := os.Open(b.image)
	if err != nil {
		b.Fatal(err)
	}
	defer image.Close()
	partition := make([]byte, b.cache.Size)
	if _, err := image.ReadAt(partition, b.cache.Offset); err != nil {
		b.Fatal(err)
	}
	return partition
}

// writeCache replaces a part of the cache partition.
func (b *bench) writeCache(at int64, data []byte) {
	b.Helper()
	image, err := os.OpenFile(b.image, os.O_RDWR, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer image.Close()
	if _, err := image.WriteAt(data, b.cache.Offset+at); err != nil {
		b.Fatal(err)
	}
}

// copyCache copies the cache partition to a file, with its file system in order: the
// machine was switched off as it ran.
func (b *bench) copyCache() (path string) {
	b.Helper()
	path = filepath.Join(b.run, "cache.img")
	if err := os.WriteFile(path, b.readCache(), 0o644); err != nil {
		b.Fatal(err)
	}
	b.tool("e2fsck", "-fy", path)
	return path
}

// cacheSays asks debugfs(8) about the file system of the cache partition.
func (b *bench) cacheSays(request string) string {
	b.Helper()
	path := b.copyCache()
	return b.tool("debugfs", "-R", request, path)
}

// debugfs has debugfs(8) change something in the file system of the cache partition,
// and returns what it said.
func (b *bench) debugfs(request string) string {
	b.Helper()
	path := b.copyCache()
	said := b.tool("debugfs", "-w", "-R", request, path)
	b.tool("e2fsck", "-fy", path)
	changed, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	b.writeCache(0, changed)
	return said
}

// putCache writes a file into the cache's file system.
func (b *bench) putCache(content []byte, path string) {
	b.Helper()
	file := filepath.Join(b.run, "put")
	if err := os.WriteFile(file, content, 0o644); err != nil {
		b.Fatal(err)
	}
	b.debugfs("write " + file + " " + path)
}

// forget removes a blob from the medium's cache, as a worn-out stick does.
func (b *bench) forget(d blob.Digest) {
	b.Helper()
	said := b.debugfs(fmt.Sprintf("rm /store/blobs/%s/%s.bin", d.Hex()[:2], d.Hex()))
	// After its name and version it says only what went wrong.
	if _, failed, _ := strings.Cut(strings.TrimSpace(said), "\n"); failed != "" {
		b.Fatalf("debugfs: %s", failed)
	}
}

// rotBlocks changes a byte of some blocks of a file, wherever the medium's cache has them.
func (b *bench) rotBlocks(file []byte, offsets []int) {
	b.Helper()
	partition := b.readCache()
	for _, off := range offsets {
		block := file[off : off+blockSize]
		found := 0
		for at := 0; ; at += blockSize {
			i := bytes.Index(partition[at:], block)
			if i < 0 {
				break
			}
			at += i
			found++
			b.writeCache(int64(at)+100, []byte{block[100] ^ 1})
		}
		if found == 0 {
			b.Fatalf("the block at %d is not in the cache", off)
		}
	}
}

// tool runs a tool of e2fsprogs and returns what it said.
func (b *bench) tool(name string, args ...string) string {
	b.Helper()
	out, err := exec.CommandContext(b.Context(), sbin(name), args...).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && name == "e2fsck" && exit.ExitCode() == 1 {
		err = nil // it has repaired something
	}
	if err != nil {
		b.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}
