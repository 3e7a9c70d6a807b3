package handover

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/manifest"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// content is what the test's publisher offers, by version and artifact.
func content(version int64, name string) []byte {
	return []byte(fmt.Sprintf("%s of version %d", name, version))
}

// publish signs a manifest and fetches its files, as a boot does.
func publish(t *testing.T, version int64, withRootfs bool) (*manifest.Verified, map[string]*fetch.File) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write(content(version, filepath.Base(r.URL.Path)))
	}))
	defer server.Close()
	artifact := func(name string) manifest.Artifact {
		data := content(version, name)
		return manifest.Artifact{Hash: blob.Of(data), Size: int64(len(data)), URLs: []string{server.URL + "/" + name}}
	}
	m := manifest.Manifest{
		ManifestVersion: version, Channel: "stable", Arch: "x86_64",
		CreatedAt: now.Add(-time.Hour), ExpiresAt: now.Add(time.Hour),
		Kernel: artifact("kernel"), Initramfs: artifact("initramfs"), Cmdline: "quiet",
	}
	names := []string{"kernel", "initramfs"}
	if withRootfs {
		rootfs := artifact("rootfs")
		m.Rootfs, names = &rootfs, append(names, "rootfs")
	}
	v := verify(t, m)
	files := make(map[string]*fetch.File)
	for _, name := range names {
		f, err := (&fetch.Fetcher{}).Artifact(context.Background(), v, name, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		files[name] = f
	}
	return v, files
}

func verify(t *testing.T, m manifest.Manifest) *manifest.Verified {
	t.Helper()
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	root, err := manifest.KeyRoot(key.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := manifest.SignManifest(m, key)
	if err != nil {
		t.Fatal(err)
	}
	v, err := manifest.Verifier{Root: root, Want: manifest.Want{Channel: "stable", Arch: "x86_64"}}.Manifest(raw, nil, nil, now)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func testSet(t *testing.T) Set {
	v, files := publish(t, 7, true)
	return Set{Kernel: files["kernel"], Initramfs: files["initramfs"], Rootfs: files["rootfs"], Verified: v, Info: testInfo()}
}

func TestCheckFillsInTheManifest(t *testing.T) {
	set := testSet(t)
	set.Info.SchemaVersion, set.Info.Manifest = 0, Manifest{Version: 99}
	data, err := set.check()
	if err != nil {
		t.Fatal(err)
	}
	info, err := ParseInfo(data)
	if err != nil || info.Manifest.Version != 7 || info.Manifest.Digest != set.Verified.Digest() || len(info.Manifest.KeyIDs) != 1 {
		t.Errorf("info = %+v, %v", info.Manifest, err)
	}
}

// Every set here is refused before the kernel is asked.
func TestLoadRefuses(t *testing.T) {
	_, other := publish(t, 8, true)
	small, _ := publish(t, 7, false)
	tests := map[string]struct {
		change func(*Set)
		code   string
		text   string
	}{
		"not verified":    {func(s *Set) { s.Verified = nil }, codeSet, "not verified"},
		"zero verified":   {func(s *Set) { s.Verified = &manifest.Verified{} }, codeSet, "not verified"},
		"other kernel":    {func(s *Set) { s.Kernel = other["kernel"] }, codeSet, "Artifact kernel hash mismatch (expected sha256:"},
		"other initramfs": {func(s *Set) { s.Initramfs = other["initramfs"] }, codeSet, "Artifact initramfs hash mismatch"},
		"other rootfs":    {func(s *Set) { s.Rootfs = other["rootfs"] }, codeSet, "Artifact rootfs hash mismatch"},
		"files swapped":   {func(s *Set) { s.Kernel, s.Initramfs = s.Initramfs, s.Kernel }, codeSet, "hash mismatch"},
		"no kernel":       {func(s *Set) { s.Kernel = nil }, codeSet, "the kernel is missing"},
		"no rootfs":       {func(s *Set) { s.Rootfs = nil }, codeSet, "the rootfs is missing"},
		"unasked rootfs":  {func(s *Set) { s.Verified = small }, codeSet, "manifest has no rootfs"},
		"bad info":        {func(s *Set) { s.Info.Mode = "" }, codeSet, "hand-over information"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			set := testSet(t)
			files := []*fetch.File{set.Kernel, set.Initramfs, set.Rootfs}
			tt.change(&set)
			loaded, err := Plan(Auto, Machine{}, nil).Load(set)
			var e *Error
			if loaded != nil || !errors.As(err, &e) || e.Code() != tt.code || !strings.Contains(err.Error(), tt.text) {
				t.Fatalf("Load = %v, %v; want %s with %q", loaded, err, tt.code, tt.text)
			}
			for _, f := range files {
				if kept := f == set.Kernel || f == set.Initramfs || f == set.Rootfs; kept && f.File().Fd() != ^uintptr(0) {
					t.Errorf("%s was not closed", f.Name())
				}
			}
		})
	}
}

// kernel notes what is asked of kexec_file_load.
type kernel struct {
	cmdline string
	flags   []int
	initrd  []byte
	err     error
}

func (k *kernel) call(_, initrd int, cmdline string, flags int) error {
	k.flags = append(k.flags, flags)
	if flags == 0 {
		k.cmdline, k.initrd = cmdline, make([]byte, 4)
		_, _ = unix.Pread(initrd, k.initrd, 0)
	}
	return k.err
}

func fileLadder(k *kernel) Ladder {
	return Ladder{Rungs: []Rung{RungFile}, ways: map[Rung]way{RungFile: fileWay{k.call}}}
}

func TestLoadAndUnload(t *testing.T) {
	k := &kernel{}
	set := testSet(t)
	loaded, err := fileLadder(k).Load(set)
	if err != nil || loaded.Rung() != RungFile || k.cmdline != "quiet" || string(k.initrd) != "init" {
		t.Fatalf("load = %v, command line %q, initrd %q", err, k.cmdline, k.initrd)
	}
	if set.Kernel.File().Fd() != ^uintptr(0) {
		t.Error("the kernel's file was not closed, and no rung is left that needs it")
	}
	k.err = unix.EBUSY
	var e *Error
	if err := loaded.Unload(); !errors.As(err, &e) || e.Code() != "KEXEC-018" || !errors.Is(err, unix.EBUSY) {
		t.Errorf("Unload = %v", err)
	}
	k.err = nil
	for range 2 { // the second has nothing to do
		if err := loaded.Unload(); err != nil {
			t.Error(err)
		}
	}
	if want := []int{0, 0, unix.KEXEC_FILE_UNLOAD, unix.KEXEC_FILE_UNLOAD}; !slices.Equal(k.flags, want) {
		t.Errorf("calls with flags %v, want %v", k.flags, want)
	}
	if err := loaded.Execute(); !errors.As(err, &e) || e.Code() != codeReturn {
		t.Errorf("Execute of nothing = %v", err)
	}
	k.err = unix.EBUSY
	if loaded, err := fileLadder(k).Load(testSet(t)); loaded != nil || !errors.As(err, &e) || e.Code() != "KEXEC-018" {
		t.Errorf("load = %v, %v", loaded, err)
	}
}

func TestCheckCmdline(t *testing.T) {
	for line, text := range map[string]string{
		strings.Repeat("x", MaxCmdline+1): "2048 bytes",
		"quiet\ninit=/bin/sh":             "control character at byte 5",
		"quiet\x00":                       "control character",
	} {
		var e *Error
		if err := checkCmdline(line); !errors.As(err, &e) || e.Code() != codeCmdline || !strings.Contains(err.Error(), text) {
			t.Errorf("%.40q: %v", line, err)
		}
	}
	for _, line := range []string{"", "quiet", strings.Repeat("x", MaxCmdline)} {
		if err := checkCmdline(line); err != nil {
			t.Errorf("%.40q: %v", line, err)
		}
	}
}

func TestInitrd(t *testing.T) {
	set := testSet(t)
	initrd, err := set.initrd([]byte("{}\n"))
	if err != nil {
		t.Fatal(err)
	}
	defer initrd.Close()
	seals, err := unix.FcntlInt(initrd.Fd(), unix.F_GET_SEALS, 0)
	if err != nil || seals&unix.F_SEAL_WRITE == 0 || seals&unix.F_SEAL_GROW == 0 || seals&unix.F_SEAL_SHRINK == 0 {
		t.Errorf("seals = %#x, %v", seals, err)
	}
	if _, err := initrd.WriteString("x"); err == nil {
		t.Error("the initrd can be written")
	}
	data, err := io.ReadAll(io.NewSectionReader(initrd, 0, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	first := content(7, "initramfs")
	if !bytes.HasPrefix(data, first) {
		t.Fatal("the publisher's initramfs does not come first, or was changed")
	}
	start := (len(first) + 3) &^ 3
	got := readCPIO(t, data[start:])
	want := map[string]string{
		"phase": "040755 ", "phase/handover.json": "100600 {}\n", "phase/rootfs.img": "100600 " + string(content(7, "rootfs")),
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("archive = %v, want %v", got, want)
	}
	if set.Initramfs.File().Fd() != ^uintptr(0) || set.Rootfs.File().Fd() != ^uintptr(0) {
		t.Error("the sources must be closed when they were copied: memory")
	}
}

// readCPIO gives "mode content" by name.
func readCPIO(t *testing.T, data []byte) map[string]string {
	t.Helper()
	entries := make(map[string]string)
	for pos := 0; ; {
		h := data[pos:]
		if len(h) < 110 || string(h[:6]) != "070701" {
			t.Fatalf("no header at %d", pos)
		}
		field := func(i int) int {
			n, err := strconv.ParseUint(string(h[6+8*i:14+8*i]), 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			return int(n)
		}
		mode, size, nameLen := field(1), field(6), field(11)
		name := string(h[110 : 110+nameLen-1])
		if name == "TRAILER!!!" {
			return entries
		}
		start := (110 + nameLen + 3) &^ 3
		entries[name] = fmt.Sprintf("%06o %s", mode, h[start:start+size])
		pos += start + (size+3)&^3
	}
}

func TestArchiveRefuses(t *testing.T) {
	short, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	closed, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer short.Close()
	closed.Close()
	for name, write := range map[string]func(*archive){
		"too large": func(a *archive) { a.header("big", modeFile, maxEntry+1) },
		"negative":  func(a *archive) { a.header("big", modeFile, -1) },
		"short":     func(a *archive) { a.file("f", 0o600, 10, short) },
		"closed":    func(a *archive) { a.file("f", 0o600, 10, closed) },
	} {
		a := archive{out: io.Discard}
		write(&a)
		a.end()
		if a.err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestShortSourceIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "short")
	if err := os.WriteFile(path, []byte("123"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeInitrd(io.Discard, &part{f, 10, f.Close}, nil, nil); err == nil {
		t.Error("a file shorter than it says must fail")
	}
}

func TestEveryErrnoHasWords(t *testing.T) {
	codes := map[string]unix.Errno{}
	for _, errno := range []unix.Errno{
		unix.ENOSYS, unix.EPERM, unix.EACCES, unix.ENODATA, unix.ENOKEY, unix.EKEYREJECTED, unix.ENOEXEC,
		unix.ENOMEM, unix.EBUSY, unix.EINVAL, unix.EADDRNOTAVAIL, unix.EBADMSG, unix.ETXTBSY, unix.EFBIG,
		unix.EOPNOTSUPP, unix.ELIBBAD, unix.EKEYEXPIRED, unix.ENOPKG, unix.EBADF, unix.EIO,
	} {
		e := explain("load the new kernel", fmt.Errorf("wrapped: %w", errno))
		if !errors.Is(e, errno) || e.Text == "" || e.Hint() == "" || !strings.HasPrefix(e.Code(), "KEXEC-0") {
			t.Errorf("%v: %+v", errno, e)
		}
		if before, ok := codes[e.Code()]; ok {
			t.Errorf("%v and %v have one code %s", before, errno, e.Code())
		}
		codes[e.Code()] = errno
	}
	if len(codes) != len(meanings) {
		t.Errorf("%d of %d errnos are tested", len(codes), len(meanings))
	}
	if e := explain("x", unix.EXDEV); e.Code() != codeOther || e.Hint() == "" {
		t.Errorf("EXDEV: %+v", e)
	}
}

func TestSealIsForEver(t *testing.T) {
	mem, err := newMemory()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mem.WriteString(hex.EncodeToString([]byte("abc"))); err != nil {
		t.Fatal(err)
	}
	ro, err := seal(mem)
	if err != nil {
		t.Fatal(err)
	}
	defer ro.Close()
	if f, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", ro.Fd()), os.O_RDWR, 0); err == nil {
		defer f.Close()
		if _, err := f.WriteString("evil"); err == nil {
			t.Error("a sealed file was written")
		}
	}
}
