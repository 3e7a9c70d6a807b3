package system

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/media"
)

// espSize is the smallest EFI system partition that a build makes: the margin
// over FAT32's minimum is room for updates beside what is there.
const espSize = 288 << 20

// A Boot is what one architecture starts from the EFI system partition. Images
// may carry several; the firmware picks its loader by name.
type Boot struct {
	Arch       string
	Chain      Chain     // "": ChainSystemdBoot
	Loader     string    // EFI program: systemd-boot, or the GRUB of ChainStock
	Stub       string    // of ChainUKI: systemd's
	UKI        media.UKI // likewise
	Signing    Signing   // of ChainUKI
	Shim       string    // of ChainStock: what the firmware starts
	MokManager string    // likewise: what shim starts to enrol keys
	Kernel     string    // kernel file, at /phase/<arch>/vmlinuz
	Initramfs  []string  // at /phase/<arch>/initramfs.img, initramfs-2.img, …
}

// ESPPaths returns the absolute paths on the EFI system partition that a loader
// entry names: the kernel, and the initramfs files in order.
func ESPPaths(arch string, initramfs int) (kernel string, initrds []string) {
	dir := "/phase/" + arch
	for i := range initramfs {
		name := "initramfs.img"
		if i > 0 {
			name = fmt.Sprintf("initramfs-%d.img", i+1)
		}
		initrds = append(initrds, dir+"/"+name)
	}
	return dir + "/vmlinuz", initrds
}

// menus are the menus of the boot loaders.
type menus struct {
	Loader map[string][]byte // files below /loader by name: "loader.conf", "entries/internet.conf", …
	Grub   []byte            // grub.cfg
}

// grubFolder is where the GRUB of Debian's installation media looks for its files:
// its prefix is part of what is signed.
const grubFolder = "boot/grub/"

// espTree lays out the EFI system partition.
func espTree(boots []Boot, m menus) (*image.Tree, error) {
	t := &image.Tree{}
	if len(boots) == 0 {
		return nil, fmt.Errorf("system: an image needs something to boot")
	}
	var chains []Chain
	for _, b := range boots {
		if err := addBoot(t, b); err != nil {
			return nil, err
		}
		chains = append(chains, b.Chain.or())
	}
	for name, data := range m.Loader {
		t.Bytes("loader/"+name, 0o644, data)
	}
	if slices.Contains(chains, ChainStock) {
		t.Bytes(grubFolder+"grub.cfg", 0o644, m.Grub)
		t.Bytes(grubFolder+"grubenv", 0o644, media.GrubEnvironment())
	}
	if err := t.Err(); err != nil {
		return nil, err
	}
	return t, checkMenus(t, m, chains)
}

// checkMenus requires the menus that the chains show.
func checkMenus(t *image.Tree, m menus, chains []Chain) error {
	if slices.Contains(chains, ChainStock) {
		if err := checkGrub(t, string(m.Grub)); err != nil {
			return err
		}
	}
	if slices.Contains(chains, ChainSystemdBoot) || len(m.Loader) > 0 {
		return checkLoaderFiles(t, m.Loader)
	}
	return nil
}

func addBoot(t *image.Tree, b Boot) error {
	p, ok := platforms[b.Arch]
	if !ok {
		return fmt.Errorf("system: unknown architecture %q", b.Arch)
	}
	if b.Chain == ChainUKI {
		return b.addUKI(t, p)
	}
	if err := addLoader(t, p, b); err != nil {
		return err
	}
	if err := image.CheckKernel(b.Kernel, b.Arch); err != nil {
		return err
	}
	kernel, initrds := ESPPaths(b.Arch, len(b.Initramfs))
	t.File(kernel[1:], 0o644, b.Kernel)
	for i, file := range b.Initramfs {
		if err := checkInitramfs(file); err != nil {
			return err
		}
		t.File(initrds[i][1:], 0o644, file)
	}
	return t.Err()
}

// addLoader places what the firmware starts, and what that starts.
//
// Shim takes grub<arch>.efi beside itself. It would rather take fb<arch>.efi, which
// writes boot entries into the firmware, and so there is none.
func addLoader(t *image.Tree, p platform, b Boot) error {
	at := map[string]string{}
	switch b.Chain.or() {
	case ChainSystemdBoot:
		at["EFI/BOOT/"+p.bootFile], at["EFI/systemd/"+p.loaderFile] = b.Loader, b.Loader
	case ChainStock:
		if b.Arch != image.ArchX8664 {
			return fmt.Errorf("system: the boot chain %q is for x86_64", b.Chain)
		}
		at["EFI/BOOT/"+p.bootFile], at["EFI/BOOT/grub"+p.efi+".efi"], at["EFI/BOOT/mm"+p.efi+".efi"] = b.Shim, b.Loader, b.MokManager
	default:
		return fmt.Errorf("system: the boot chain %q has no layout", b.Chain)
	}
	for name, file := range at {
		if err := image.CheckLoader(file, b.Arch); err != nil {
			return err
		}
		t.File(name, 0o644, file)
	}
	return nil
}

// checkGrub requires that each entry of GRUB's menu names a kernel and initramfs
// files that are on the partition, and that the default is one of them.
func checkGrub(t *image.Tree, text string) error {
	var entries, kernels int
	ids := map[string]bool{}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		var files []string
		switch words[0] {
		case "menuentry":
			entries++
			if i := slices.Index(words, "--id"); i >= 0 && i+1 < len(words) {
				ids[words[i+1]] = true
			}
		case "linux":
			kernels++
			files = words[1:min(2, len(words))]
		case "initrd":
			files = words[1:]
		}
		for _, file := range files {
			if !t.Has(strings.TrimPrefix(file, "/")) {
				return fmt.Errorf("system: grub.cfg names %s, which is not on the medium", file)
			}
		}
	}
	if entries == 0 || kernels != entries {
		return fmt.Errorf("system: grub.cfg has %d entries and starts %d kernels", entries, kernels)
	}
	for _, def := range grubDefaults(text) {
		if !ids[def] {
			return fmt.Errorf("system: grub.cfg names the default %q, which is not an entry", def)
		}
	}
	return nil
}

// grubDefaults returns what a grub.cfg sets the default to.
func grubDefaults(text string) (ids []string) {
	for line := range strings.Lines(text) {
		if id, is := strings.CutPrefix(strings.TrimSpace(line), "set default="); is {
			ids = append(ids, id)
		}
	}
	return ids
}

// checkLoaderFiles requires that the menu works: loader.conf names a default
// entry that exists, and every entry names files that are on the partition.
func checkLoaderFiles(t *image.Tree, loader map[string][]byte) error {
	conf, ok := loader["loader.conf"]
	if !ok {
		return fmt.Errorf("system: no loader.conf")
	}
	entries := 0
	for name, text := range loader {
		if path.Dir(name) != "entries" {
			continue
		}
		entries++
		if err := checkEntry(t, name, string(text)); err != nil {
			return err
		}
	}
	if entries == 0 {
		return fmt.Errorf("system: the boot menu has no entries")
	}
	for _, def := range loaderValues(string(conf), "default") {
		pattern := "entries/" + strings.TrimSuffix(def, ".conf") + ".conf"
		matches := func(name string) bool { ok, _ := path.Match(pattern, name); return ok }
		if !slices.ContainsFunc(keys(loader), matches) {
			return fmt.Errorf("system: loader.conf names the default %q, which is not an entry", def)
		}
	}
	return nil
}

func checkEntry(t *image.Tree, name, text string) error {
	linux := loaderValues(text, "linux")
	if len(linux) != 1 {
		return fmt.Errorf("system: boot entry %s names %d kernels, expected one", name, len(linux))
	}
	for _, file := range append(linux, loaderValues(text, "initrd")...) {
		if !t.Has(strings.TrimPrefix(file, "/")) {
			return fmt.Errorf("system: boot entry %s names %s, which is not on the medium", name, file)
		}
	}
	return nil
}

// loaderValues returns the values of a key in a file of the Boot Loader
// Specification: "key value" lines.
func loaderValues(text, key string) []string {
	var values []string
	for line := range strings.Lines(text) {
		if k, v, _ := strings.Cut(strings.TrimSpace(line), " "); k == key {
			values = append(values, strings.TrimSpace(v))
		}
	}
	return values
}

func keys(m map[string][]byte) []string {
	list := make([]string, 0, len(m))
	for k := range m {
		list = append(list, k)
	}
	slices.Sort(list)
	return list
}
