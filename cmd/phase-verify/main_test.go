package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/cmd/internal/steps"
	"github.com/phasebased/phase/manifest"
)

// clock is the time at which the scripts run, unless they set NOW.
var clock = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"phase-verify": func() { os.Exit(verifyAt(os.Getenv("NOW"))) }})
}

func verifyAt(text string) int {
	now, err := time.Parse(time.RFC3339, text)
	if err != nil {
		now = clock
	}
	return steps.Verify(os.Args[1:], steps.Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Now: func() time.Time { return now }})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			vectors, err := filepath.Abs(vectorDir)
			env.Setenv("V", vectors)
			return errors.Join(err, writeFixtures(env.WorkDir))
		},
	})
}

func testKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("phase-verify test key " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func public(name string) ed25519.PublicKey { return testKey(name).Public().(ed25519.PublicKey) }

// writeFixtures makes what a publisher would have published, and attacks on it.
func writeFixtures(dir string) error {
	role := func(name string) manifest.RoleKeys {
		return manifest.RoleKeys{Keys: []ed25519.PublicKey{public(name)}, Threshold: 1}
	}
	root, err := manifest.NewRoot(manifest.RootSpec{Version: 1, Expires: clock.AddDate(2, 0, 0), Roles: map[manifest.Role]manifest.RoleKeys{
		manifest.RoleRoot: role("root"), manifest.RoleTargets: role("targets"), manifest.RoleTimestamp: role("timestamp"),
	}}, testKey("root"))
	if err != nil {
		return err
	}
	files := map[string][]byte{
		"root.json":    root,
		"key.raw":      public("targets"),
		"key.hex":      []byte(hex.EncodeToString(public("targets")) + "\n"),
		"key.b64":      []byte(base64.StdEncoding.EncodeToString(public("targets")) + "\n"),
		"stranger.hex": []byte(hex.EncodeToString(public("stranger"))),
		"weak.raw":     make([]byte, 32),
		"large.json":   bytes.Repeat([]byte(" "), 70_000),
	}
	for name, spec := range map[string]struct {
		version int64
		key     string
	}{"m6.json": {6, "targets"}, "m7.json": {7, "targets"}, "m8.json": {8, "targets"}, "strange.json": {7, "stranger"}, "timestamp.json": {7, "timestamp"}} {
		if files[name], err = signed(spec.version, "quiet", spec.key); err != nil {
			return err
		}
	}
	if files["other7.json"], err = signed(7, "loud", "targets"); err != nil {
		return err
	}
	files["mirrored.json"] = bytes.Replace(files["m7.json"], []byte("{"), []byte(`{"manifest_version":9,`), 1)
	files["cut.json"] = files["m7.json"][:100]
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func signed(version int64, cmdline, key string) ([]byte, error) {
	return manifest.SignManifest(manifest.Manifest{
		ManifestVersion: version,
		Channel:         manifest.ChannelStable,
		Arch:            manifest.ArchX8664,
		CreatedAt:       clock.AddDate(0, 0, -1),
		ExpiresAt:       clock.AddDate(0, 3, 0),
		Kernel:          manifest.Artifact{Hash: blob.Of([]byte("kernel")), Size: 6},
		Initramfs:       manifest.Artifact{Hash: blob.Of([]byte("initramfs")), Size: 9},
		Cmdline:         cmdline,
	}, testKey(key))
}
