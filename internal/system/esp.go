package system

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/phasebased/phase/internal/image"
)

// espSize is the smallest EFI system partition that a build makes: the margin
// over FAT32's minimum is room for updates beside what is there.
const espSize = 288 << 20

// A Boot is what one architecture starts from the EFI system partition. Images
// may carry several; the firmware picks its loader by name.
type Boot struct {
	Arch       string
	Chain      Chain    // "": ChainSystemdBoot
	Loader     string   // EFI program: systemd-boot, or the GRUB of ChainStock
	Shim       string   // of ChainStock: what the firmware starts
	MokManager string   // likewise: what shim starts to enrol keys
	Kernel     string   // kernel file, at /phase/<arch>/vmlinuz
	Initramfs  []string // at /phase/<arch>/initramfs.img, initramfs-2.img, …
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

// espTree lays out the EFI system partition. Loader holds the files below
// /loader by name: "loader.conf", "entries/internet.conf", …
func espTree(boots []Boot, loader map[string][]byte) (*image.Tree, error) {
	t := &image.Tree{}
	if len(boots) == 0 {
		return nil, fmt.Errorf("system: an image needs something to boot")
	}
	for _, b := range boots {
		if err := addBoot(t, b); err != nil {
			return nil, err
		}
	}
	for name, data := range loader {
		t.Bytes("loader/"+name, 0o644, data)
	}
	if err := t.Err(); err != nil {
		return nil, err
	}
	return t, checkLoaderFiles(t, loader)
}

func addBoot(t *image.Tree, b Boot) error {
	p, ok := platforms[b.Arch]
	if !ok {
		return fmt.Errorf("system: unknown architecture %q", b.Arch)
	}
	if b.Chain.or() != ChainSystemdBoot {
		return fmt.Errorf("system: the boot chain %q has no layout yet", b.Chain)
	}
	if err := image.CheckLoader(b.Loader, b.Arch); err != nil {
		return err
	}
	if err := image.CheckKernel(b.Kernel, b.Arch); err != nil {
		return err
	}
	t.File("EFI/BOOT/"+p.bootFile, 0o644, b.Loader)
	t.File("EFI/systemd/"+p.loaderFile, 0o644, b.Loader)
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
