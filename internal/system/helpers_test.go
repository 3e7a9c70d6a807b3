package system

import (
	"crypto/ed25519"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/phasebased/phase/manifest"
)

// buildTime dates the tests' builds.
var buildTime = time.Date(2026, 3, 1, 12, 30, 44, 0, time.UTC)

func buildGo(t *testing.T, dir, name, source string) string {
	t.Helper()
	src := filepath.Join(dir, name+".go")
	if err := os.WriteFile(src, []byte(source), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, name)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, src)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, b)
	}
	return out
}

func testRoot(t *testing.T) []byte {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys := manifest.RoleKeys{Keys: []ed25519.PublicKey{key.Public().(ed25519.PublicKey)}, Threshold: 1}
	spare := func() manifest.RoleKeys {
		pub, _, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return manifest.RoleKeys{Keys: []ed25519.PublicKey{pub}, Threshold: 1}
	}
	root, err := manifest.NewRoot(manifest.RootSpec{Version: 1, Expires: time.Now().AddDate(1, 0, 0), Roles: map[manifest.Role]manifest.RoleKeys{
		manifest.RoleRoot: keys, manifest.RoleTargets: spare(), manifest.RoleTimestamp: spare(),
	}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func loaderFiles(arch string, initrds int, options string) map[string][]byte {
	kernel, files := ESPPaths(arch, initrds)
	text := "title Test\nlinux " + kernel + "\n"
	for _, f := range files {
		text += "initrd " + f + "\n"
	}
	return map[string][]byte{
		"loader.conf":           []byte("timeout 0\ndefault internet.conf\neditor no\n"),
		"entries/internet.conf": []byte(text + "options " + options + "\n"),
	}
}
