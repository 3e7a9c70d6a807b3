package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/cmd/internal/steps"
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

func TestScripts(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(publisher))
	t.Cleanup(server.Close)
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			env.Setenv("URL", server.URL)
			env.Setenv("KERNEL", blob.Of(contents["kernel"]).Hex())
			vectors, err := filepath.Abs("../../manifest/testdata")
			if err != nil {
				return err
			}
			env.Setenv("V", vectors)
			return writeFixtures(env.WorkDir, server.URL)
		},
	})
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
	return manifest.SignManifest(m, testKey(key))
}
