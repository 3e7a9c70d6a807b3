package deb

import (
	"bytes"
	"context"
	"crypto/md5"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/nettest"
)

// programs builds one small program and names it as all of them.
func programs(t *testing.T, arch string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module stub\n\ngo 1.26.0\n", "main.go": "package main\n\nfunc main() {}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", "stub", ".")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{"plasmd", "plasm-jail", "phase", "phase-discover", "phase-fetch", "phase-verify"} {
		if err := os.Link(filepath.Join(dir, "stub"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func config(t *testing.T) Config {
	page := []byte(".TH STUB 1\n.SH NAME\nstub \\- does nothing\n")
	return Config{
		Programs: programs(t, "amd64"), Arch: "x86_64", Version: "1.2.3~rc1", Time: time.Unix(1_750_000_000, 0),
		Config: []byte("{}\n"), Manuals: map[string][]byte{"plasmd": page, "phase": page, "phase-discover": page, "phase-fetch": page, "phase-verify": page},
		Completions: map[string]map[string][]byte{"plasmd": {"bash-completion/completions/plasmd": []byte("# bash\n")}}, Out: t.TempDir(),
	}
}

func build(t *testing.T, cfg Config) []string {
	t.Helper()
	nettest.Require(t, "dpkg-deb")
	made, err := Build(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// TestSameBytes: another folder, another umask, another hour give the same packages.
func TestSameBytes(t *testing.T) {
	cfg := config(t)
	first := build(t, cfg)
	cfg.Out = filepath.Join(t.TempDir(), "elsewhere")
	before := syscall.Umask(0o077)
	second := build(t, cfg)
	syscall.Umask(before)
	for i := range first {
		a, err1 := os.ReadFile(first[i])
		b, err2 := os.ReadFile(second[i])
		if err1 != nil || err2 != nil || !bytes.Equal(a, b) {
			t.Errorf("%s differs: %v, %v", filepath.Base(first[i]), err1, err2)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(cfg.Out, ".deb-*")); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

// TestContents asks dpkg-deb what is inside.
func TestContents(t *testing.T) {
	cfg := config(t)
	made := build(t, cfg)
	if len(made) != 2 || filepath.Base(made[0]) != "plasmd_1.2.3~rc1_amd64.deb" || filepath.Base(made[1]) != "phase_1.2.3~rc1_amd64.deb" {
		t.Fatalf("%q", made)
	}
	list := output(t, "dpkg-deb", "-c", made[0])
	for _, want := range []string{
		"-rwxr-xr-x root/root", "./usr/bin/plasmd\n", "./usr/lib/systemd/system/plasmd.service\n", "./usr/lib/systemd/system/phase-provider.service\n", "./usr/lib/sysusers.d/plasmd.conf\n",
		"./etc/plasm/config.json\n", "./usr/share/man/man1/plasmd.1.gz\n", "./usr/share/bash-completion/completions/plasmd\n", "./usr/share/doc/plasmd/copyright\n", "./usr/share/doc/plasmd/modules.gz\n",
	} {
		if !strings.Contains(list, want) {
			t.Errorf("no %q in\n%s", want, list)
		}
	}
	for line := range strings.Lines(list) {
		if !strings.Contains(line, " root/root ") || !strings.Contains(line, " 2025-06-15 ") || strings.Contains(line[:10], "w-w") {
			t.Errorf("owner, date or rights: %s", line)
		}
	}
	control := output(t, "dpkg-deb", "-I", made[0])
	for _, want := range []string{"Package: plasmd\n", "Architecture: amd64\n", "Version: 1.2.3~rc1\n", "conffiles", "postinst", "prerm", "postrm", "md5sums"} {
		if !strings.Contains(control, want) {
			t.Errorf("no %q in\n%s", want, control)
		}
	}
	if list := output(t, "dpkg-deb", "-c", made[1]); strings.Contains(list, "plasmd.service") || !strings.Contains(list, "./usr/bin/phase-verify\n") {
		t.Errorf("phase has\n%s", list)
	}
}

// TestOtherArchitecture unpacks packages for arm64, which nothing here can run: they
// differ from those for amd64 in their programs, all of that architecture, and in what
// their control files say of it.
func TestOtherArchitecture(t *testing.T) {
	cfg := config(t)
	here := build(t, cfg)
	cfg.Programs, cfg.Arch = programs(t, "arm64"), "arm64"
	there := build(t, cfg)
	if len(here) != len(there) {
		t.Fatalf("%q and %q", here, there)
	}
	for i := range there {
		if got := output(t, "dpkg-deb", "--show", "--showformat=${Architecture}", there[i]); got != "arm64" {
			t.Errorf("%s: %s", there[i], got)
		}
		ours, theirs := unpacked(t, here[i]), unpacked(t, there[i])
		for name, data := range theirs {
			switch {
			case strings.HasPrefix(name, "usr/bin/"), strings.HasPrefix(name, "usr/lib/plasm/"):
				if f, err := elf.NewFile(bytes.NewReader(data)); err != nil || f.Machine != elf.EM_AARCH64 {
					t.Errorf("%s: %v", name, err)
				}
			case name == "DEBIAN/control" || name == "DEBIAN/md5sums" || strings.HasSuffix(name, "/modules.gz"):
			case !bytes.Equal(data, ours[name]):
				t.Errorf("%s is another one than for amd64", name)
			}
			delete(ours, name)
		}
		for name := range ours {
			t.Errorf("%s is not there for arm64", name)
		}
	}
}

// TestMaintainerScripts: each is what sh can read, stops at the first failure, and can
// be run; and the sums are those of the files.
func TestMaintainerScripts(t *testing.T) {
	for _, path := range build(t, config(t)) {
		files := unpacked(t, path)
		for _, name := range []string{"postinst", "prerm", "postrm"} {
			script, there := files["DEBIAN/"+name]
			if there != strings.Contains(path, "plasmd_") {
				t.Errorf("%s has %s: %v", path, name, there)
			}
			if !there {
				continue
			}
			if !bytes.Contains(script, []byte("\nset -e\n")) {
				t.Errorf("%s goes on after a failure", name)
			}
			cmd := exec.CommandContext(t.Context(), "sh", "-n")
			cmd.Stdin = bytes.NewReader(script)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", name, err, out)
			}
		}
		for line := range strings.Lines(string(files["DEBIAN/md5sums"])) {
			sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
			if got := fmt.Sprintf("%x", md5.Sum(files[name])); got != sum {
				t.Errorf("%s has the sum %s, not %s", name, got, sum)
			}
		}
	}
}

// unpacked is what is in a package, by name, with its control files below DEBIAN.
func unpacked(t *testing.T, path string) map[string][]byte {
	t.Helper()
	dir := t.TempDir()
	output(t, "dpkg-deb", "--raw-extract", path, dir)
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		files[name], err = os.ReadFile(path)
		return err
	})
	if err != nil || len(files) == 0 {
		t.Fatal(len(files), err)
	}
	return files
}

// TestLintian is Debian's judge. It finds nothing but what the overrides say.
func TestLintian(t *testing.T) {
	nettest.Require(t, "lintian")
	for _, path := range build(t, config(t)) {
		cmd := exec.CommandContext(t.Context(), "lintian", "--allow-root", "--fail-on", "error,warning", "--no-tag-display-limit", path)
		if out, err := cmd.CombinedOutput(); err != nil || bytes.Contains(out, []byte("\nW: ")) || bytes.Contains(out, []byte("unused-override")) {
			t.Errorf("%v\n%s", err, out)
		}
	}
}

func TestRefusals(t *testing.T) {
	good := config(t)
	for name, c := range map[string]struct {
		change func(*Config)
		says   string
	}{
		"unknown architecture": {func(c *Config) { c.Arch = "riscv64" }, "neither"},
		"another architecture": {func(c *Config) { c.Arch = "arm64" }, "built for EM_X86_64, not for arm64"},
		"no version":           {func(c *Config) { c.Version = "devel" }, "no version"},
		"a version of two":     {func(c *Config) { c.Version = "1\nDepends: x" }, "no version"},
		"no date":              {func(c *Config) { c.Time = time.Time{} }, "no date"},
		"no programs":          {func(c *Config) { c.Programs = t.TempDir() }, "no such file"},
		"no program":           {func(c *Config) { c.Programs = text(t) }, "not a program"},
	} {
		cfg := good
		cfg.Out = t.TempDir()
		c.change(&cfg)
		if made, err := Build(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %q, %v", name, made, err)
		}
		if left, _ := os.ReadDir(cfg.Out); len(left) != 0 {
			t.Errorf("%s: left behind: %v", name, left)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if made, err := Build(ctx, good); err == nil {
		t.Errorf("given up: %q", made)
	}
}

// text is a folder with a script where a program should be.
func text(t *testing.T) string {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "plasmd"), []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}
