package system

import (
	"slices"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/media"
)

// stockSources are sources with files for shim, its key manager and GRUB.
func stockSources(t *testing.T) Sources {
	t.Helper()
	src, dir := fakeSources(t), t.TempDir()
	src.Chain = ChainStock
	src.Shim, src.MokManager, src.Grub = write(t, dir+"/shim.efi", efiFile()), write(t, dir+"/mm.efi", efiFile()), write(t, dir+"/grub.efi", efiFile())
	return src
}

func grubMenu(t *testing.T, initrds int) []byte {
	t.Helper()
	kernel, files := ESPPaths(image.ArchX8664, initrds)
	text, err := media.GrubConf(media.GrubData{Timeout: 5, Default: "local", Linux: kernel, Initrds: files, Options: "quiet"})
	if err != nil {
		t.Fatal(err)
	}
	return []byte(text)
}

func TestParseChain(t *testing.T) {
	for _, c := range []struct {
		text, arch string
		want       Chain
	}{
		{"", image.ArchX8664, ChainStock}, {"", image.ArchARM64, ChainSystemdBoot},
		{"systemd-boot", image.ArchX8664, ChainSystemdBoot}, {"uki", image.ArchX8664, ChainUKI},
		{"stock", image.ArchARM64, ""}, {"grub", image.ArchX8664, ""},
	} {
		if got, err := ParseChain(c.text, c.arch); got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q for %s: %q, %v", c.text, c.arch, got, err)
		}
	}
}

// TestInputsForAChain: the parts of one chain take the place of another's, in the
// bill of materials as well.
func TestInputsForAChain(t *testing.T) {
	src := stockSources(t)
	names := func(in *Inputs) (list []string) {
		for _, m := range in.Materials {
			list = append(list, m.Name)
		}
		return list
	}
	in, err := Prepare(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	if in.Loader != "" || in.Grub != src.Grub || in.Shim != src.Shim || in.MokManager != src.MokManager || slices.Contains(names(in), "loader.efi") || !slices.Contains(names(in), "shim.efi") {
		t.Errorf("%+v", in)
	}
	src.Chain = ""
	if in, err = in.For(t.Context(), src); err != nil || in.Loader != src.Loader || in.Shim != "" || slices.Contains(names(in), "shim.efi") || !slices.Contains(names(in), "loader.efi") {
		t.Errorf("%+v, %v", in, err)
	}
	for name, change := range map[string]func(*Sources){
		"unknown":          func(s *Sources) { s.Chain = "lilo" },
		"other arch":       func(s *Sources) { s.Arch = image.ArchARM64 },
		"text as shim":     func(s *Sources) { s.Shim = s.CACerts },
		"missing GRUB":     func(s *Sources) { s.Grub += "x" },
		"package, offline": func(s *Sources) { s.MokManager, s.Offline = "", true },
	} {
		bad := stockSources(t)
		change(&bad)
		if _, err := in.For(t.Context(), bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestStockLayout(t *testing.T) {
	in, err := Prepare(t.Context(), stockSources(t))
	if err != nil {
		t.Fatal(err)
	}
	boot := in.Boot(write(t, t.TempDir()+"/seed", []byte("070701 archive")))
	tree, err := espTree([]Boot{boot}, menus{Grub: grubMenu(t, 1)})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"EFI/BOOT/BOOTX64.EFI", "EFI/BOOT/grubx64.efi", "EFI/BOOT/mmx64.efi", "boot/grub/grub.cfg", "boot/grub/grubenv", "phase/x86_64/vmlinuz", "phase/x86_64/initramfs.img"} {
		if !tree.Has(name) {
			t.Errorf("no %s", name)
		}
	}
	// Shim would start it instead of GRUB, and it writes into the firmware.
	if tree.Has("EFI/BOOT/fbx64.efi") || tree.Has("loader/loader.conf") {
		t.Error("more than the chain takes")
	}
	for name, change := range map[string]func(*Boot, *menus){
		"no shim":       func(b *Boot, _ *menus) { b.Shim = "" },
		"no menu":       func(_ *Boot, m *menus) { m.Grub = nil },
		"other initrds": func(_ *Boot, m *menus) { m.Grub = grubMenu(t, 2) },
		"other default": func(_ *Boot, m *menus) {
			m.Grub = []byte(strings.Replace(string(m.Grub), "set default=local", "set default=x", 1))
		},
		"no kernel":     func(_ *Boot, m *menus) { m.Grub = []byte(strings.Replace(string(m.Grub), "  linux", "  echo", 1)) },
		"arm64":         func(b *Boot, _ *menus) { b.Arch = image.ArchARM64 },
		"no such chain": func(b *Boot, _ *menus) { b.Chain = "lilo" },
	} {
		b, m := boot, menus{Grub: grubMenu(t, 1)}
		change(&b, &m)
		if _, err := espTree([]Boot{b}, m); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
