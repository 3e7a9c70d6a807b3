package system

import (
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/internal/kmod"
	"github.com/phasebased/phase/internal/nettest"
	"github.com/phasebased/phase/logproof"
)

// run returns what an outside judge printed; it skips the test when the tool is
// missing, unless PHASE_REQUIRE_TOOLS=1 says that this machine must have it.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(nettest.Tool(t, name), args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func write(t *testing.T, path string, data []byte) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// efiFile is the least that passes for an EFI program and a kernel for x86_64.
func efiFile() []byte {
	b := make([]byte, 5000)
	copy(b, "MZ")
	b[0x3c] = 0x80
	copy(b[0x80:], "PE\x00\x00\x64\x86\x01")
	copy(b[0x98:], "\x0b\x02")
	b[0x98+68] = 10
	copy(b[0x202:], "HdrS")
	return b
}

const testPEM = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"

// fakeSources makes a kernel, its modules, a loader and a CA bundle.
func fakeSources(t *testing.T) Sources {
	t.Helper()
	dir := t.TempDir()
	modules := filepath.Join(dir, "6.1.0-test")
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	io.WriteString(z, "module overlay")
	z.Close()
	write(t, modules+"/kernel/virtio.ko", []byte("module virtio"))
	write(t, modules+"/kernel/virtio_net.ko", []byte("module virtio_net"))
	write(t, modules+"/kernel/overlay.ko.gz", packed.Bytes())
	write(t, modules+"/kernel/unused.ko", []byte("module unused"))
	write(t, modules+"/modules.dep", []byte("kernel/virtio.ko:\nkernel/virtio_net.ko: kernel/virtio.ko\nkernel/overlay.ko.gz:\nkernel/unused.ko:\n"))
	write(t, modules+"/modules.alias", []byte("alias virtio:d00000001v* virtio_net\nalias pci:v0000CAFE* unused\n"))
	write(t, modules+"/modules.softdep", []byte("softdep unused pre: virtio\n"))
	write(t, modules+"/modules.builtin", []byte("kernel/virtio_pci.ko\nkernel/virtio_blk.ko\nkernel/squashfs.ko\nkernel/vfat.ko\nkernel/ext4.ko\nkernel/af_packet.ko\nkernel/loop.ko\nkernel/dm_verity.ko\n"))
	return Sources{
		Arch: image.ArchX8664, Dir: dir, Offline: true,
		Files: Files{
			KernelImage: write(t, dir+"/vmlinuz", efiFile()), ModulesDir: modules,
			Loader: write(t, dir+"/loader.efi", efiFile()), CACerts: write(t, dir+"/ca.crt", []byte(testPEM)),
		},
	}
}

func fakeBuild(t *testing.T) *Build {
	t.Helper()
	in, err := Prepare(t.Context(), fakeSources(t))
	if err != nil {
		t.Fatal(err)
	}
	return &Build{Inputs: in, Version: "0.0.1", Time: buildTime}
}

func TestPrepare(t *testing.T) {
	in, err := Prepare(t.Context(), fakeSources(t))
	if err != nil || in.Kernel.Release != "6.1.0-test" || string(in.CACerts) != testPEM || len(in.Materials) != 4 {
		t.Fatalf("%+v, %v", in, err)
	}
}

func TestPrepareRefusals(t *testing.T) {
	for name, change := range map[string]func(*Sources){
		"unknown arch":     func(s *Sources) { s.Arch = "amd64" },
		"other arch":       func(s *Sources) { s.Arch = image.ArchARM64 },
		"no modules":       func(s *Sources) { s.ModulesDir = "" },
		"no kernel":        func(s *Sources) { s.KernelImage = "" },
		"missing kernel":   func(s *Sources) { s.KernelImage += "x" },
		"text as loader":   func(s *Sources) { s.Loader = s.CACerts },
		"text as kernel":   func(s *Sources) { s.KernelImage = s.CACerts },
		"no certificates":  func(s *Sources) { s.CACerts = s.Loader },
		"package, offline": func(s *Sources) { s.Loader = "" },
	} {
		src := fakeSources(t)
		change(&src)
		if _, err := Prepare(t.Context(), src); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestJoinCerts(t *testing.T) {
	got := joinCerts(map[string][]byte{"b": []byte("B\n\n"), "a": []byte("A")})
	if string(got) != "A\nB\n" {
		t.Errorf("%q", got)
	}
}

// unpackSeed returns the uncompressed archive.
func unpackSeed(t *testing.T, path string) []byte {
	t.Helper()
	packed, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	// Up to three zeros behind the frame align what may follow.
	for pad := range 4 {
		data, e := z.DecodeAll(packed[:len(packed)-pad], nil)
		if e == nil {
			return data
		}
		err = e
	}
	t.Fatal(err)
	return nil
}

func TestSeed(t *testing.T) {
	b, dir, root := fakeBuild(t), t.TempDir(), testRoot(t)
	init := buildGo(t, dir, "init", "package main\nfunc main() {}\n")
	out, mods, err := b.Seed(t.Context(), SeedConfig{Out: dir + "/a/seed", Pid1: init, Init: init, Root: root})
	if err != nil {
		t.Fatal(err)
	}
	if mods.Files != 3 || mods.Bytes != int64(len("module virtio"+"module virtio_net"+"module overlay")) {
		t.Errorf("modules: %+v", mods)
	}
	archive := unpackSeed(t, out.Path)
	for _, want := range []string{
		"00000000init\x00", "bin/phase-init\x00", "bin/phase-discover\x00", "bin/phase-verify\x00", "bin/phase-fetch\x00", "dev/console\x00", "proc\x00", "run\x00",
		"lib/modules/6.1.0-test/kernel/overlay.ko\x00", "module overlay", "kernel/virtio_net.ko: kernel/virtio.ko\n", string(root),
		`"build_time": "2026-03-01T12:30:44Z"`, `"kernel": "6.1.0-test"`, testPEM, "alias pci:v0000CAFE* unused\n",
	} {
		if !bytes.Contains(archive, []byte(want)) {
			t.Errorf("the seed lacks %q", want)
		}
	}
	for _, not := range []string{"overlay.ko.gz", "unused.ko", "module unused", "softdep unused", "log-policy"} {
		if bytes.Contains(archive, []byte(not)) {
			t.Errorf("the seed has %q, which is not needed", not)
		}
	}

	later := time.Unix(2e9, 0)
	if err := os.Chtimes(init, later, later); err != nil {
		t.Fatal(err)
	}
	again, _, err := b.Seed(t.Context(), SeedConfig{Out: dir + "/b/seed", Pid1: init, Init: init, Root: root})
	if err != nil || again.Digest != out.Digest {
		t.Errorf("second build: %v, %v (%v)", again.Digest, out.Digest, err)
	}
}

// testLogPolicy asks for one log and no witness.
func testLogPolicy(t *testing.T) string {
	seed := sha256.Sum256([]byte("system test log"))
	public := ed25519.NewKeyFromSeed(seed[:]).Public().(ed25519.PublicKey)
	key, err := logproof.NewKey("example.com/log", logproof.LogKey, public)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("log %s\nquorum none\n", key)
}

func TestSeedWithALogPolicy(t *testing.T) {
	b, dir, logPolicy := fakeBuild(t), t.TempDir(), testLogPolicy(t)
	init := buildGo(t, dir, "init", "package main\nfunc main() {}\n")
	out, _, err := b.Seed(t.Context(), SeedConfig{Out: dir + "/seed", Pid1: init, Init: init, Root: testRoot(t), LogPolicy: []byte(logPolicy)})
	if err != nil {
		t.Fatal(err)
	}
	archive := unpackSeed(t, out.Path)
	for _, want := range []string{"phase/log-policy\x00", logPolicy} {
		if !bytes.Contains(archive, []byte(want)) {
			t.Errorf("the seed lacks %q", want)
		}
	}
}

func TestSeedRefusals(t *testing.T) {
	dir := t.TempDir()
	init := buildGo(t, dir, "init", "package main\nfunc main() {}\n")
	data, err := os.ReadFile(init)
	if err != nil {
		t.Fatal(err)
	}
	noise := make([]byte, MaxSeed)
	for i, x := 0, uint32(1); i < len(noise); i++ {
		x = x*1664525 + 1013904223
		noise[i] = byte(x >> 24)
	}
	good := SeedConfig{Out: dir + "/seed", Pid1: init, Init: init, Root: testRoot(t)}
	for name, c := range map[string]struct {
		change func(*Build, *SeedConfig)
		want   string
	}{
		"no root":          {func(b *Build, c *SeedConfig) { c.Root = nil }, "refusing to build a medium"},
		"placeholder root": {func(b *Build, c *SeedConfig) { c.Root = []byte("PLACEHOLDER") }, "refusing to build a medium"},
		"changed root": {func(b *Build, c *SeedConfig) {
			c.Root = bytes.Replace(c.Root, []byte(`"version":1`), []byte(`"version":2`), 1)
		}, "refusing to build a medium"},
		"log policy that cannot be read": {func(b *Build, c *SeedConfig) { c.LogPolicy = []byte("quorum none\n") }, "no log line"},
		"no init":                        {func(b *Build, c *SeedConfig) { c.Init = dir + "/none" }, "no such file"},
		"no supervisor":                  {func(b *Build, c *SeedConfig) { c.Pid1 = dir + "/none" }, "no such file"},
		"script as init":                 {func(b *Build, c *SeedConfig) { c.Init = write(t, dir+"/sh", []byte("#!/bin/sh\nexec sh\n")) }, "not a static program"},
		"epoch forgotten":                {func(b *Build, c *SeedConfig) { b.Time = time.Unix(0, 0) }, "SOURCE_DATE_EPOCH"},
		"no version":                     {func(b *Build, c *SeedConfig) { b.Version = "" }, "no version"},
		"no inputs":                      {func(b *Build, c *SeedConfig) { b.Inputs = nil }, "no inputs"},
		"too large":                      {func(b *Build, c *SeedConfig) { c.Init = write(t, dir+"/big", append(data, noise...)) }, "the limit for flavour cloud is"},
		"module missing": {func(b *Build, c *SeedConfig) {
			write(t, b.Inputs.Kernel.Modules+"/modules.builtin", []byte("kernel/ext4.ko\n"))
		}, "virtio_pci"},
	} {
		b, cfg := fakeBuild(t), good
		c.change(b, &cfg)
		if _, _, err := b.Seed(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want an error about %q", name, err, c.want)
		}
	}
	var re *RootError
	if _, _, err := fakeBuild(t).Seed(t.Context(), SeedConfig{Pid1: init, Init: init}); !errors.As(err, &re) || re.Hint() == "" {
		t.Errorf("no root: %v, want a RootError with a hint", err)
	}
}

func TestIndexOfPackage(t *testing.T) {
	if _, err := selectModules(Kernel{Modules: t.TempDir(), Release: "x"}, seedRequired, nil, nil); err == nil {
		t.Error("an empty modules folder was accepted")
	}
	k := fakeBuild(t).Inputs.Kernel
	set, err := selectModules(k, []string{"virtio_net"}, []string{"overlay", "no_such_driver"}, nil)
	if err != nil || len(set.Absent) != 1 || set.Absent[0] != "no_such_driver" {
		t.Fatalf("%+v, %v", set, err)
	}
	x, err := kmod.Load(mapFS(set.index), ".")
	if err != nil {
		t.Fatal(err)
	}
	files, err := x.Closure("virtio_net", "overlay")
	if err != nil || strings.Join(files, " ") != "kernel/virtio.ko kernel/virtio_net.ko kernel/overlay.ko" {
		t.Errorf("closure in the target: %v, %v", files, err)
	}
	if names, _ := x.Resolve("pci:v0000CAFEd1"); len(names) != 1 || x.Has(names[0]) {
		t.Errorf("the target must know the name of a module it lacks, got %v", names)
	}
}

func TestDecompress(t *testing.T) {
	var gz, zs bytes.Buffer
	g := gzip.NewWriter(&gz)
	io.WriteString(g, "module")
	g.Close()
	z, _ := zstd.NewWriter(&zs)
	io.WriteString(z, "module")
	z.Close()
	for ext, data := range map[string][]byte{".gz": gz.Bytes(), ".zst": zs.Bytes()} {
		r, err := decompress(ext, bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != "module" {
			t.Errorf("%s: %q, %v", ext, got, err)
		}
	}
	if _, err := decompress(".lz4", nil); err == nil {
		t.Error("unknown compression accepted")
	}
	cmd := exec.Command(nettest.Tool(t, "xz"), "-c")
	cmd.Stdin = strings.NewReader("module")
	data, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	r, err := decompress(".xz", bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := io.ReadAll(r); string(got) != "module" {
		t.Errorf(".xz: %q", got)
	}
	if _, err := decompress(".xz", strings.NewReader("not xz")); err == nil {
		t.Error("damaged xz accepted")
	}
}
