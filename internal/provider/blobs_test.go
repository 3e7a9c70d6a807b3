package provider

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/nettest"
	"github.com/phasebased/phase/manifest"
)

// A blob that is not what its name says is withheld, and told; the same content
// elsewhere is served in its place.
func TestRottenBlobIsWithheld(t *testing.T) {
	base := t.TempDir()
	publish(t, base, 7)
	rotten := blobPath([]byte("lost"))
	write(t, base, rotten, []byte("l0st"))
	write(t, base, blobPath(contents["kernel"]), []byte("not the kernel"))
	var log bytes.Buffer
	quiet := slog.New(slog.DiscardHandler)
	p, url := start(t, Config{Base: base, Log: slog.New(slog.NewTextHandler(&log, nil)), Access: quiet})
	if resp, data := get(t, url+"/"+rotten); resp.StatusCode != 404 {
		t.Errorf("rotten blob: %s %q", resp.Status, data)
	}
	if resp, data := get(t, url+"/"+blobPath([]byte("l0st"))); resp.StatusCode != 200 || string(data) != "l0st" {
		t.Errorf("what it is: %s", resp.Status) // it has that digest, under whichever name
	}
	if resp, data := get(t, url+"/"+blobPath(contents["kernel"])); resp.StatusCode != 200 || !bytes.Equal(data, contents["kernel"]) {
		t.Errorf("the kernel beside its rotten copy: %s, %d bytes", resp.Status, len(data))
	}
	if n := strings.Count(log.String(), "a blob is not what its name says"); n != 2 {
		t.Errorf("told %d times:\n%s", n, &log)
	}
	if s := p.Status(); s.Withheld != 2 || s.Healthy {
		t.Errorf("%d withheld, healthy %t", s.Withheld, s.Healthy)
	}
}

// A blob that appeared or changed is withheld for a moment: somebody may be
// writing it. Asking for it has it looked at.
func TestUncheckedBlobIsWithheld(t *testing.T) {
	base := t.TempDir()
	publish(t, base, 7)
	p, url := start(t, Config{Base: base, Rescan: 50 * time.Millisecond})
	job := blobPath([]byte("job"))
	write(t, base, job, []byte("jo"))
	write(t, base, blobPath([]byte("new")), []byte("new"))
	for _, path := range []string{job, blobPath([]byte("new"))} {
		if resp, _ := get(t, url+"/"+path); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || resp.Header.Get("ETag") != "" {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	if _, err := p.OpenBlob(blob.Of([]byte("new"))); !errors.Is(err, ErrUnchecked) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- p.Run(ctx) }()
	eventually(t, "the new blob", func() bool { resp, _ := get(t, url+"/"+blobPath([]byte("new"))); return resp.StatusCode == 200 })
	eventually(t, "the broken blob", func() bool { resp, _ := get(t, url+"/"+job); return resp.StatusCode == 404 })
	write(t, base, job, []byte("job"))
	eventually(t, "the blob repaired", func() bool { resp, _ := get(t, url+"/"+job); return resp.StatusCode == 200 })
	cancel()
	<-ended
}

// eventually waits for something that has to happen.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(nettest.Limit); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: it did not happen", what)
		}
	}
}

// Nobody can say before the first scan what is there.
func TestBlobsBeforeTheFirstScan(t *testing.T) {
	base := t.TempDir()
	publish(t, base, 7)
	p, err := New(Config{Base: base, Arch: manifest.ArchX8664})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, content := range []string{"job", "nothing"} {
		if _, err := p.OpenBlob(blob.Of([]byte(content))); !errors.Is(err, ErrUnchecked) {
			t.Errorf("%s: %v", content, err)
		}
	}
	if len(p.Blobs()) != 0 {
		t.Errorf("blobs %v", p.Blobs())
	}
}

func TestBlobsAreListedAndOpened(t *testing.T) {
	p, _ := start(t, Config{})
	for _, content := range [][]byte{[]byte("job"), contents["kernel"], []byte("{}")} {
		d := blob.Of(content)
		if !slices.Contains(p.Blobs(), d) {
			t.Errorf("%.10q is not listed", content)
		}
		b, err := p.OpenBlob(d)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(b)
		if err != nil || !bytes.Equal(got, content) || b.Size != int64(len(content)) {
			t.Errorf("%d of %d bytes, %v", len(got), b.Size, err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := p.OpenBlob(blob.Of([]byte("nothing"))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// Bits that rot leave size and date as they were. They are found, though not at
// once.
func TestRotIsFound(t *testing.T) {
	base := t.TempDir()
	publish(t, base, 7)
	clock := now
	p, url := start(t, Config{Base: base, Now: func() time.Time { return clock }})
	path := filepath.Join(base, blobPath([]byte("job")))
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, "/", path, []byte("jab"))
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	files := p.files.sum().files
	clock = clock.Add(recheckAfter)
	for range files {
		if err := p.Refresh(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if resp, _ := get(t, url+"/"+blobPath([]byte("job"))); resp.StatusCode != 404 {
		t.Errorf("rotten blob: %s", resp.Status)
	}
}

// publishLarge publishes a release with a kernel of some chunks, whose list the
// manifest names by this digest.
func publishLarge(t *testing.T, base string, kernel []byte, list blob.Digest) {
	t.Helper()
	publish(t, base, 7)
	initramfs := contents["initramfs"]
	raw, err := manifest.SignManifest(manifest.Manifest{
		ManifestVersion: 7, Channel: manifest.ChannelStable, Arch: manifest.ArchX8664,
		CreatedAt: now.AddDate(0, 0, -1), ExpiresAt: now.AddDate(0, 3, 0),
		Kernel:    manifest.Artifact{Hash: blob.Of(kernel), Size: int64(len(kernel)), Chunks: list},
		Initramfs: manifest.Artifact{Hash: blob.Of(initramfs), Size: int64(len(initramfs))},
	}, []ed25519.PrivateKey{testKey("targets")}...)
	if err != nil {
		t.Fatal(err)
	}
	write(t, base, "stable/x86_64/kernel", kernel)
	write(t, base, "stable/x86_64/manifest.json", raw)
}

// Whoever has an artifact has its chunk list, also where no file holds it.
func TestChunkListIsServed(t *testing.T) {
	kernel := bytes.Repeat([]byte("0123456789abcdef"), 200_000)
	chunks, _, _, err := blob.ChunksOf(bytes.NewReader(kernel))
	if err != nil {
		t.Fatal(err)
	}
	list := chunks.Bytes()
	for name, prepare := range map[string]func(base string){
		"made here": func(string) {},
		"a file":    func(base string) { write(t, base, blobPath(list), list) },
		"rotten":    func(base string) { write(t, base, blobPath(list), list[1:]) },
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			publishLarge(t, base, kernel, blob.Of(list))
			prepare(base)
			p, url := start(t, Config{Base: base})
			for range 2 {
				resp, data := get(t, url+"/"+blobPath(list))
				if resp.StatusCode != 200 || !bytes.Equal(data, list) || resp.Header.Get("X-Artifact-Hash") != blob.Of(list).String() {
					t.Errorf("%s, %d bytes", resp.Status, len(data))
				}
				if !slices.Contains(p.Blobs(), blob.Of(list)) || len(p.Status().Releases[0].Problems) != 0 {
					t.Errorf("problems %q", p.Status().Releases[0].Problems)
				}
				if err := p.Refresh(context.Background()); err != nil { // from memory
					t.Fatal(err)
				}
			}
			os.Remove(filepath.Join(base, "stable/x86_64/kernel"))
			os.Remove(filepath.Join(base, blobPath(list)))
			if err := p.Refresh(context.Background()); err != nil {
				t.Fatal(err)
			}
			if resp, _ := get(t, url+"/"+blobPath(list)); resp.StatusCode != 404 {
				t.Errorf("list of what is not there: %s", resp.Status)
			}
		})
	}
}

func TestWrongChunkListIsAProblem(t *testing.T) {
	base := t.TempDir()
	publishLarge(t, base, bytes.Repeat([]byte("x"), 3<<20), blob.Of([]byte("no list")))
	p, url := start(t, Config{Base: base})
	if problems := p.Status().Releases[0].Problems; len(problems) != 1 || !strings.Contains(problems[0], "chunk list of kernel") {
		t.Errorf("problems %q", problems)
	}
	if resp, _ := get(t, url+"/"+blobPath([]byte("no list"))); resp.StatusCode != 404 {
		t.Errorf("%s", resp.Status)
	}
}
