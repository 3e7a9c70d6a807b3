package main

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/internal/mediacheck"
	"github.com/phasebased/phase/internal/nettest"
	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/internal/sums"
)

// downloads is a folder as a publisher offers it, with a small but honest image.
func downloads(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "downloads")
	keys, err := release.NewKeys()
	if err == nil {
		err = os.Mkdir(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	writeSmallImage(t, filepath.Join(dir, "phase.img"), keys)
	if err := os.WriteFile(filepath.Join(dir, "phase.qcow2"), []byte("QFI"), 0o644); err != nil {
		t.Fatal(err)
	}
	list, err := sums.Folder(dir, nil)
	if err == nil {
		err = release.SignMedia(dir, keys.Media, list, time.Unix(1700000000, 0))
	}
	if err != nil {
		t.Fatal(err)
	}
	exportKey(t, filepath.Dir(dir), "media-key", keys.Media)
	exportKey(t, filepath.Dir(dir), "other", keys.Timestamp)
	return dir
}

// exportKey writes a public key in both forms.
func exportKey(t *testing.T, dir, name string, key ed25519.PrivateKey) {
	t.Helper()
	err := release.ExportMediaKey(filepath.Join(dir, name), key.Public().(ed25519.PublicKey), func(path string, data []byte) error {
		return os.WriteFile(path, data, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func writeSmallImage(t *testing.T, path string, keys *release.Keys) {
	t.Helper()
	nettest.Tool(t, "mksquashfs")
	at := time.Unix(1700000000, 0)
	root, err := keys.RootFile(at.AddDate(1, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	loader := []byte("a boot loader")
	papers, err := json.Marshal(map[string]any{"materials": []any{}, "esp": []mediacheck.ESPFile{
		{Path: "/EFI/BOOT/BOOTX64.EFI", Size: int64(len(loader)), SHA256: blob.Of(loader)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	esp, seed := &image.Tree{}, &image.Tree{}
	esp.Bytes("EFI/BOOT/BOOTX64.EFI", 0o644, loader)
	for name, data := range map[string]string{
		"policy.toml": "", "bootstrap-nodes.toml": "", "root.json": string(root), "materials.json": string(papers),
		"build.json": `{"version":"0.9","build_time":"2026-01-02T03:04:05Z","arch":"x86_64","kernel":"6.1.0"}`,
	} {
		seed.Bytes(name, 0o644, []byte(data))
	}
	squash := filepath.Join(t.TempDir(), "seed")
	if err := (image.Squashfs{Time: at}).Write(t.Context(), squash, seed); err != nil {
		t.Fatal(err)
	}
	parts, size, err := image.Layout([]image.Partition{
		{Label: "phase-esp", Type: image.TypeESP(), Size: image.MinFAT32}, {Label: "phase-seed", Type: image.TypeLinux(), Size: 1 << 20},
	})
	if err != nil {
		t.Fatal(err)
	}
	f, err := image.CreateSparse(path, size)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fat := image.FAT32{Label: "ESP", Size: parts[0].Size, Offset: parts[0].Offset, Time: at}
	if err := errors.Join(image.WriteGPT(f, image.DeriveGUID("d"), parts, size), fat.Write(io.NewOffsetWriter(f, parts[0].Offset), esp),
		image.CopyInto(f, parts[1].Offset, parts[1].Size, squash)); err != nil {
		t.Fatal(err)
	}
}

// phaseIn runs the command line in a folder.
func phaseIn(dir string, line string) (out string, status int) {
	cmd := exec.Command("sh", "-eu", "-c", line)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "NO_COLOR=1")
	text, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return string(text), exit.ExitCode()
	}
	if err != nil {
		return err.Error(), -1
	}
	return string(text), 0
}

// change flips a byte of a file.
func change(t *testing.T, path string, off int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], off); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b[:], off); err != nil {
		t.Fatal(err)
	}
}

// TestDownloadsPage types what the page for strangers shows: everything succeeds with
// the publisher's files, and with a changed image or a changed list each block that
// verifies it fails.
func TestDownloadsPage(t *testing.T) {
	for _, tool := range []string{"openssl", "minisign", "sha256sum", "shasum"} {
		nettest.Tool(t, tool)
	}
	page, err := os.ReadFile("../../docs/downloads.md")
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for i, block := range strings.Split(string(page), "```") {
		if body, isShell := strings.CutPrefix(block, "sh\n"); i%2 == 1 && isShell {
			blocks = append(blocks, body)
		}
	}
	if len(blocks) != 6 {
		t.Errorf("%d blocks on the page", len(blocks))
	}
	good, badImage, badList := downloads(t), downloads(t), downloads(t)
	change(t, filepath.Join(badImage, "phase.img"), 1<<20+12) // in the boot partition's first sector
	change(t, filepath.Join(badList, "SHA256SUMS"), 3)
	for _, block := range blocks {
		for _, tt := range []struct {
			dir  string
			fail bool
		}{{good, false}, {badImage, !strings.HasPrefix(block, "cat ")}, {badList, !strings.HasPrefix(block, "cat ") && !strings.Contains(block, "--structure")}} {
			if out, status := phaseIn(tt.dir, block); (status != 0) != tt.fail {
				t.Errorf("%q ended with status %d, failure is %v:\n%s", block, status, tt.fail, out)
			}
		}
	}
}

func TestImageVerify(t *testing.T) {
	dir := downloads(t)
	key, err := release.ReadMediaKey(filepath.Join(dir, "../media-key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		line   string
		status int
		texts  []string
	}{
		"no argument":       {"phase image verify", 2, []string{"name one image"}},
		"two":               {"phase image verify a b --structure", 2, nil},
		"no key":            {"phase image verify phase.img", 2, []string{"--key is missing", "--structure"}},
		"both":              {"phase image verify phase.img --structure --key ../media-key.pem", 2, nil},
		"format":            {"phase image verify phase.img --structure --format xml", 2, nil},
		"no such image":     {"phase image verify other.img --key ../media-key.pem", 1, []string{"no such file"}},
		"no such key":       {"phase image verify phase.img --key ../media-key", 1, []string{"no such file"}},
		"a private key":     {"phase image verify phase.img --key phase.img", 1, []string{"MEDIA|not a public key"}},
		"verified":          {"phase image verify phase.img --key ../media-key.minisign", 0, []string{"VERIFIED", "in the list as phase.img", "x86_64 by systemd-boot", "version 1, expires 2024-11-14", "0.9 of 2026-01-02"}},
		"by the key itself": {fmt.Sprintf("phase image verify phase.img --key ed25519:%x", []byte(key)), 0, []string{"VERIFIED"}},
		"another key":       {"phase image verify phase.img --key ../other.pem", 1, []string{"MEDIA-002", "FAILED"}},
		"another format":    {"phase image verify phase.qcow2 --key ../media-key.pem", 0, []string{"VERIFIED", "not a raw image"}},
		"structure of it":   {"phase image verify phase.qcow2 --structure", 2, []string{"no raw image"}},
		"structure":         {"phase image verify phase.img --structure", 0, []string{"WHOLE, but nobody vouches for it"}},
		"folder":            {"phase image verify . --key ../media-key.pem", 0, []string{"VERIFIED", "2 files, all as in SHA256SUMS", "version 1"}},
		"folder, structure": {"phase image verify . --structure", 0, []string{"WHOLE"}},
		"folder and list":   {"phase image verify . --key ../media-key.pem --sums SHA256SUMS", 2, nil},
		"renamed":           {"cp phase.img ../stick.img; phase image verify ../stick.img --sums SHA256SUMS --key ../media-key.pem", 0, []string{"in the list as phase.img"}},
		"not in the list":   {"cp phase.img ../changed.img; truncate -s 300000000 ../changed.img; phase image verify ../changed.img --sums SHA256SUMS --key ../media-key.pem", 1, []string{"MEDIA-008", "MEDIA-021"}},
		"no list":           {"phase image verify ../stick2.img --key ../media-key.pem", 1, []string{"no such file"}},
		"a pipe":            {"mkfifo ../pipe.img; phase image verify ../pipe.img --structure", 1, []string{"neither an image"}},
	} {
		out, status := phaseIn(dir, tt.line)
		if status != tt.status {
			t.Errorf("%s: status %d, want %d:\n%s", name, status, tt.status, out)
		}
		for _, text := range tt.texts {
			found := false
			for _, one := range strings.Split(text, "|") {
				found = found || strings.Contains(out, one)
			}
			if !found {
				t.Errorf("%s: no %q in\n%s", name, text, out)
			}
		}
	}
}

func TestImageVerifyJSON(t *testing.T) {
	dir := downloads(t)
	out, status := phaseIn(dir, "phase image verify phase.img --key ../media-key.pem --format json 2>/dev/null")
	var got struct {
		Status, Key string
		Images      []struct {
			SHA256    blob.Digest
			Names     []string
			Structure mediacheck.Report
		}
		Findings []struct{ Code, Text, Hint string }
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil || status != 0 {
		t.Fatal(err, status, out)
	}
	if got.Status != "verified" || len(got.Images) != 1 || got.Images[0].SHA256.IsZero() || got.Images[0].Structure.Root.Version != 1 || !strings.HasPrefix(got.Key, "ed25519:") {
		t.Errorf("%+v", got)
	}
	change(t, filepath.Join(dir, "phase.img"), 600)
	out, status = phaseIn(dir, "phase image verify phase.img --key ../media-key.pem --format json 2>/dev/null")
	if err := json.Unmarshal([]byte(out), &got); err != nil || status != 1 {
		t.Fatal(err, status, out)
	}
	if got.Status != "failed" || len(got.Findings) != 2 || got.Findings[0].Code != "MEDIA-020" || got.Findings[1].Code != "MEDIA-007" || got.Findings[0].Hint == "" {
		t.Errorf("%+v", got.Findings)
	}
}

// TestImageVerifyStick verifies a device that is larger than the image.
func TestImageVerifyStick(t *testing.T) {
	dir := downloads(t)
	nettest.Root(t, "for a loop device")
	out, status := phaseIn(dir, "cp phase.img ../stick; truncate -s 400M ../stick; losetup --find --show ../stick")
	if status != 0 {
		nettest.Lacking(t, "PHASE_REQUIRE_ROOT_TESTS", "no loop device: "+out)
	}
	device := strings.TrimSpace(out)
	t.Cleanup(func() {
		if out, status := phaseIn(dir, "losetup --detach "+device); status != 0 {
			t.Error(out)
		}
	})
	if out, status := phaseIn(dir, "phase image verify "+device+" --key ../media-key.pem"); status != 2 || !strings.Contains(out, "--sums is missing") {
		t.Errorf("%d: %s", status, out)
	}
	line := "phase image verify " + device + " --sums SHA256SUMS --key ../media-key.pem"
	if out, status := phaseIn(dir, line); status != 0 || !strings.Contains(out, "in the list as phase.img") {
		t.Errorf("%d: %s", status, out)
	}
	change(t, device, 1<<20+700) // free room of the boot partition
	if out, status := phaseIn(dir, line); status != 1 || !strings.Contains(out, "if it was booted before, that is why") {
		t.Errorf("%d: %s", status, out)
	}
}
