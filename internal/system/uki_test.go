package system

import (
	"crypto/x509"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/internal/pefile"
	"github.com/phasebased/phase/internal/pefile/pefiletest"
	"github.com/phasebased/phase/internal/secureboot"
	"github.com/phasebased/phase/media"
)

// ukiBoot is what a medium of a unified kernel image starts.
func ukiBoot(t *testing.T, s Signing) Boot {
	t.Helper()
	dir := t.TempDir()
	kernel := pefiletest.Program(pefile.MachineX8664, "Linux")
	copy(kernel[0x202:], "HdrS")
	text, err := media.UKIOf(media.EntryData{Mode: "local", Arch: image.ArchX8664, Options: "quiet"}, 10, "1")
	if err != nil {
		t.Fatal(err)
	}
	return Boot{
		Arch: image.ArchX8664, Chain: ChainUKI, Signing: s, UKI: text,
		Shim: write(t, dir+"/shim", efiFile()), MokManager: write(t, dir+"/mm", efiFile()),
		Stub:   write(t, dir+"/stub", pefiletest.Program(pefile.MachineX8664, "\xc3#### LoaderInfo: systemd-stub 252 ####")),
		Kernel: write(t, dir+"/kernel", kernel), Initramfs: []string{write(t, dir+"/seed", []byte("070701 archive"))},
	}
}

// TestUKILayout: whatever on the boot partition the owner's key vouches for carries
// kernel, initramfs and command line in itself. There is one such program, the one
// that firmware or shim starts, and no loader that would read a menu.
func TestUKILayout(t *testing.T) {
	key, _, err := secureboot.NewKey("Test", secureboot.RoleDB, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	const first, second = "EFI/BOOT/BOOTX64.EFI", "EFI/BOOT/grubx64.efi"
	for name, tt := range map[string]struct {
		signing Signing
		at      string
		files   []string
	}{
		"owner":    {Signing{Key: key, Owner: map[string][]byte{"db.auth": []byte("x"), "PK.auth": []byte("y")}}, first, []string{first, "keys/PK.auth", "keys/db.auth"}},
		"enrolled": {Signing{Key: key}, second, []string{first, second, "EFI/BOOT/mmx64.efi", CertificateFile}},
		"nobody":   {Signing{}, first, []string{first}},
	} {
		tree, err := espTree([]Boot{ukiBoot(t, tt.signing)}, menus{})
		if err != nil {
			t.Fatal(name, err)
		}
		files := contents(t, tree)
		for _, file := range tt.files {
			if _, ok := files[file]; !ok {
				t.Errorf("%s: no %s", name, file)
			}
		}
		if len(files) != len(tt.files) {
			t.Errorf("%s: %d files, want %q", name, len(files), tt.files)
		}
		program, err := pefile.Parse(files[tt.at])
		if err != nil {
			t.Fatal(name, err)
		}
		if line, _ := program.Content(".cmdline"); !strings.HasPrefix(string(line), "phase.mode=local phase.menu=10 ") {
			t.Errorf("%s: %q", name, line)
		}
		for file, data := range files {
			owned := secureboot.Verify(data, []*x509.Certificate{key.Cert}) == nil
			if owned != (file == tt.at && tt.signing.Key != nil) {
				t.Errorf("%s: %s is signed by the owner: %v", name, file, owned)
			}
		}
		if seed, _ := program.Content(".initrd"); string(seed) != "070701 archive" {
			t.Errorf("%s: the initramfs is %q", name, seed)
		}
	}
	for name, change := range map[string]func(*Boot){
		"no stub":      func(b *Boot) { b.Stub = b.Kernel },
		"no kernel":    func(b *Boot) { b.Kernel = b.Stub },
		"no seed":      func(b *Boot) { b.Initramfs = nil },
		"no options":   func(b *Boot) { b.UKI.Cmdline = "" },
		"no shim":      func(b *Boot) { b.Shim = "" },
		"rubbish seed": func(b *Boot) { b.Initramfs = []string{b.Shim} },
	} {
		b := ukiBoot(t, Signing{Key: key})
		change(&b)
		if _, err := espTree([]Boot{b}, menus{}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// contents are the files of a tree.
func contents(t *testing.T, tree *image.Tree) map[string][]byte {
	t.Helper()
	entries, err := tree.Entries()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, e := range entries {
		if !e.Mode.IsRegular() {
			continue
		}
		r, err := e.Open()
		if err != nil {
			t.Fatal(err)
		}
		if files[e.Path], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
		r.Close()
	}
	return files
}
