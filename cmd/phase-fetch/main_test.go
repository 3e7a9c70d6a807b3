package main

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/cmd/internal/steps"
	"github.com/phasebased/phase/internal/delta"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/manifest"
)

// clock is the time at which the scripts run.
var clock = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"phase-fetch": func() {
		os.Exit(steps.Fetch(os.Args[1:], steps.Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
			Now: func() time.Time { return clock }}))
	}})
}

// contents are the artifacts of all scripts.
var contents = map[string][]byte{
	"kernel":    bytes.Repeat([]byte("kernel "), 100_000),
	"initramfs": bytes.Repeat([]byte("initramfs "), 30_000),
	"rootfs":    []byte("rootfs"),
}

// big has a chunk list; bigBefore is the release before it.
var (
	big       = pattern(8<<20+123, 0)
	bigBefore = pattern(8<<20, 1)
)

// pattern is content that no chunk list finds twice.
func pattern(n int, variant byte) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i>>16) ^ byte(i>>8)*31 ^ byte(i)*7
	}
	copy(data[5<<20:], bytes.Repeat([]byte{variant}, 1000))
	return data
}

// blobs is everything that the server has by digest: the artifacts, the chunk list
// and the patch of the big one.
type blobs map[string][]byte

func newBlobs() (b blobs, list, patch blob.Digest, err error) {
	b = blobs{}
	add := func(data []byte) blob.Digest {
		d := blob.Of(data)
		b[d.Hex()] = data
		return d
	}
	for _, c := range contents {
		add(c)
	}
	add(big)
	chunks, _, _, err := blob.ChunksOf(bytes.NewReader(big))
	if err != nil {
		return nil, list, patch, err
	}
	var p bytes.Buffer
	if err := delta.Make(&p, bytes.NewReader(bigBefore), int64(len(bigBefore)), bytes.NewReader(big), int64(len(big))); err != nil {
		return nil, list, patch, err
	}
	return b, add(chunks.Bytes()), add(p.Bytes()), nil
}

// base answers below a base URL: /hang sends half of what is big and then nothing
// more, /cut ends there, /lie changes a bit of every chunk, /list has everything but what is big.
func (b blobs) base(w http.ResponseWriter, r *http.Request) bool {
	mode, rest, ok := strings.Cut(r.URL.Path, "/blobs/")
	data := b[strings.TrimSuffix(filepath.Base(rest), ".bin")]
	if !ok || data == nil {
		return false
	}
	large := len(data) > 4<<20
	switch {
	case (mode == "/hang" || mode == "/cut") && large:
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		w.Write(data[:len(data)/2])
		w.(http.Flusher).Flush()
		if mode == "/cut" {
			panic(http.ErrAbortHandler)
		}
		<-r.Context().Done()
		return true
	case mode == "/lie" && large:
		data = bytes.Clone(data)
		for i := 0; i < len(data); i += blob.ChunkSize {
			data[i] ^= 1
		}
	case mode == "/list" && large:
		return false
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	return true
}

// gateway answers as a trustless IPFS gateway does.
func gateway(w http.ResponseWriter, r *http.Request) bool {
	cid, ok := strings.CutPrefix(r.URL.Path, "/ipfs/")
	if !ok || r.Header.Get("Accept") != "application/vnd.ipld.raw" {
		return false
	}
	for chunk := range slices.Chunk(big, blob.ChunkSize) {
		if fetch.CID(blob.Of(chunk)) == cid {
			w.Header().Set("Content-Type", "application/vnd.ipld.raw")
			w.Write(chunk)
			return true
		}
	}
	return false
}

// publisher serves contents under /good and as blobs, the same with one bit
// changed under /tampered, a sign-in page under /portal, nothing that ends
// under /stall, and 404 elsewhere.
func publisher(w http.ResponseWriter, r *http.Request) {
	dir, name := filepath.Split(r.URL.Path)
	data, ok := contents[name]
	if digest, isBlob := strings.CutSuffix(name, ".bin"); isBlob {
		for _, c := range contents {
			if blob.Of(c).Hex() == digest {
				data, ok = c, true
			}
		}
	}
	switch {
	case dir == "/portal/":
		w.Header().Set("Content-Type", "text/html")
		w.Write([]byte("<html>sign in"))
		return
	case dir == "/stall/":
		<-r.Context().Done()
		return
	case !ok || dir != "/good/" && dir != "/tampered/" && !strings.HasPrefix(dir, "/blobs/"):
		http.NotFound(w, r)
		return
	case dir == "/tampered/":
		data = bytes.Clone(data)
		data[0] ^= 1
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

// rot changes a bit in each file of a folder that is larger than 500 kB.
func rot(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil || len(data) < 500_000 {
			return err
		}
		data[len(data)/10] ^= 1
		return os.WriteFile(path, data, 0o644)
	}))
}

// served starts the server and returns its URL and the manifest of what is big.
func served(t *testing.T) (url string, bigManifest []byte) {
	t.Helper()
	all, list, patch, err := newBlobs()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !all.base(w, r) && !gateway(w, r) {
			publisher(w, r)
		}
	}))
	t.Cleanup(server.Close)
	m := release("", "", false)
	m.Rootfs = &manifest.Artifact{Hash: blob.Of(big), Size: int64(len(big)), Chunks: list, Deltas: []manifest.Delta{
		{From: blob.Of(bigBefore), Hash: patch, Size: int64(len(all[patch.Hex()]))},
	}}
	raw, err := manifest.SignManifest(m, testKey("targets"))
	if err != nil {
		t.Fatal(err)
	}
	return server.URL, raw
}

func TestScripts(t *testing.T) {
	url, bigManifest := served(t)
	testscript.Run(t, testscript.Params{
		Dir:  filepath.Join("testdata", "script"),
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"rot": rot},
		Setup: func(env *testscript.Env) error {
			env.Setenv("URL", url)
			env.Setenv("BIG", blob.Of(big).Hex())
			env.Setenv("BEFORE", blob.Of(bigBefore).Hex())
			env.Setenv("KERNEL", blob.Of(contents["kernel"]).Hex())
			vectors, err := filepath.Abs("../../manifest/testdata")
			if err != nil {
				return err
			}
			env.Setenv("V", vectors)
			return errors.Join(writeFixtures(env.WorkDir, url), writeBig(env.WorkDir, bigManifest))
		},
	})
}

// writeBig adds what is big, and a folder with all its blobs.
func writeBig(dir string, bigManifest []byte) error {
	all, _, _, err := newBlobs()
	if err != nil {
		return err
	}
	files := map[string][]byte{"m-big.json": bigManifest, "want-big": big, "before/rootfs": bigBefore}
	for hex, data := range all {
		files["folder/blobs/"+hex[:2]+"/"+hex+".bin"] = data
	}
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// TestKilled kills the program in the middle of a transfer. The next one goes on
// where it was.
func TestKilled(t *testing.T) {
	url, bigManifest := served(t)
	dir := t.TempDir()
	if err := errors.Join(writeFixtures(dir, url), writeBig(dir, bigManifest)); err != nil {
		t.Fatal(err)
	}
	args := []string{"-m", "m-big.json", "-k", "key", "-a", "rootfs", "-o", "out", "--progress", "json"}
	cmd := exec.Command("phase-fetch", append(args, "--source", url+"/hang")...)
	cmd.Dir = dir
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	limit := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	defer limit.Stop()
	var last struct{ Done, Total int64 }
	for lines := bufio.NewScanner(stderr); last.Done < 3<<20 && lines.Scan(); {
		if err := json.Unmarshal(lines.Bytes(), &last); err != nil {
			t.Errorf("progress %q: %v", lines.Text(), err)
		}
	}
	cmd.Process.Kill()
	cmd.Wait()
	if last.Done < 3<<20 || last.Total != int64(len(big)) {
		t.Fatalf("killed at %+v", last)
	}
	again := exec.Command("phase-fetch", append(args, "--source", url, "-f", "json")...)
	again.Dir = dir
	out, err := again.Output()
	var result struct{ Artifacts []struct{ Kept int64 } }
	if err := errors.Join(err, json.Unmarshal(out, &result)); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if len(result.Artifacts) != 1 || result.Artifacts[0].Kept < 2<<20 {
		t.Errorf("kept %+v of %d bytes", result.Artifacts, last.Done)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "out", "rootfs")); err != nil || !bytes.Equal(got, big) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func testKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("phase-fetch test key " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// writeFixtures makes a key and a manifest for each way to serve.
func writeFixtures(dir, server string) error {
	public := testKey("targets").Public().(ed25519.PublicKey)
	files := map[string][]byte{
		"key": []byte(hex.EncodeToString(public)),
	}
	for _, name := range contents {
		files["want-"+string(name[:6])] = name
	}
	for _, where := range []string{"good", "tampered", "portal", "stall", "missing", ""} {
		for _, rootfs := range []bool{true, false} {
			name, key := "m-"+where, "targets"
			if !rootfs {
				name += "-small"
			}
			raw, err := signed(server, where, rootfs, key)
			if err != nil {
				return err
			}
			files[name+".json"] = raw
		}
	}
	var err error
	if files["strange.json"], err = signed(server, "good", true, "stranger"); err != nil {
		return err
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func signed(server, where string, rootfs bool, key string) ([]byte, error) {
	return manifest.SignManifest(release(server, where, rootfs), testKey(key))
}

func release(server, where string, rootfs bool) manifest.Manifest {
	artifact := func(name string) manifest.Artifact {
		a := manifest.Artifact{Hash: blob.Of(contents[name]), Size: int64(len(contents[name]))}
		if where != "" {
			a.URLs = []string{server + "/" + where + "/" + name}
		}
		return a
	}
	m := manifest.Manifest{
		ManifestVersion: 7,
		Channel:         manifest.ChannelStable,
		Arch:            manifest.ArchX8664,
		CreatedAt:       clock.AddDate(0, 0, -1),
		ExpiresAt:       clock.AddDate(0, 3, 0),
		Kernel:          artifact("kernel"),
		Initramfs:       artifact("initramfs"),
	}
	if rootfs {
		a := artifact("rootfs")
		m.Rootfs = &a
	}
	return m
}
