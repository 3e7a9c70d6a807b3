// Package media holds what is copied onto a medium as text: the boot
// loader's configuration, and the files a person may edit, policy.toml and
// bootstrap-nodes.toml.
//
// The files lie beside this source as people will see them on the medium.
// Values are filled in through LoaderConf, Entry and GrubConf, which refuse whatever
// would add a line or change the meaning of one.
package media

import (
	"embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/template"
)

//go:embed loader.conf entries grub.cfg policy.toml bootstrap-nodes.toml
var files embed.FS

// maxOptions bounds the kernel options of an entry, in bytes. Linux takes
// 2048 on our architectures, and the loader adds some of its own.
const maxOptions = 1800

// LoaderConf returns loader/loader.conf. timeout is in seconds; 0 boots the
// default at once, while a key is held the menu still shows. def is one of
// Modes; its entry is that of EntryName for whatever machine it is.
func LoaderConf(timeout int, def string) (string, error) {
	if err := checkMenu(timeout, def); err != nil {
		return "", err
	}
	return render("loader.conf", struct {
		Timeout int
		Default string
	}{timeout, def + "*.conf"})
}

// EntryName is the name of an entry's file below loader/entries. On a medium for
// machines of several architectures, arch tells theirs apart, and the loader shows
// each machine its own; "" for a medium that has one.
func EntryName(mode, arch string) string {
	if arch == "" {
		return mode + ".conf"
	}
	return mode + "-" + strings.ReplaceAll(arch, "_", "-") + ".conf"
}

// EntryData is what differs between the boot entries of two media.
type EntryData struct {
	// Mode is one of Modes; it decides title, order and phase.mode.
	Mode string
	// Arch is the canonical architecture of the kernel, "x86_64" or
	// "arm64"; the loader shows the entry only on such machines.
	Arch string
	// Linux and Initrd are absolute paths on the boot partition.
	Linux, Initrd string
	// Options are further kernel options, in printable ASCII on one line. They come
	// behind those of the mode: Private's keep the kernel's last words out of the
	// firmware's variables (pstore).
	Options string
}

// Modes returns the names of the boot modes in the order of the menu.
func Modes() []string { return []string{"internet", "local", "private"} }

// Entry returns the text of loader/entries/<Mode>.conf.
func Entry(e EntryData) (string, error) {
	if err := checkMode(e.Mode); err != nil {
		return "", err
	}
	arch, err := loaderArch(e.Arch)
	if err != nil {
		return "", err
	}
	for _, path := range []string{e.Linux, e.Initrd} {
		if err := checkPath(path); err != nil {
			return "", err
		}
	}
	if err := checkOptions(e.Options); err != nil {
		return "", err
	}
	e.Arch = arch
	if e.Options != "" {
		e.Options = " " + e.Options
	}
	return render("entries/"+e.Mode+".conf", e)
}

// Policy returns the policy.toml of a new medium: every key commented out
// at its default.
func Policy() []byte { return read("policy.toml") }

// BootstrapNodes returns the bootstrap-nodes.toml of a new medium, which
// names no node.
func BootstrapNodes() []byte { return read("bootstrap-nodes.toml") }

func read(name string) []byte {
	b, err := files.ReadFile(name)
	if err != nil {
		return nil // cannot happen: the names are those embedded, see the tests
	}
	return b
}

func render(name string, data any) (string, error) {
	t, err := template.ParseFS(files, name)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	err = t.Execute(&b, data)
	return b.String(), err
}

func checkMenu(timeout int, def string) error {
	if timeout < 0 || timeout > 3600 {
		return fmt.Errorf("menu timeout of %d seconds: not between 0 and 3600", timeout)
	}
	return checkMode(def)
}

func checkMode(mode string) error {
	if !slices.Contains(Modes(), mode) {
		return fmt.Errorf("unknown boot mode %q", mode)
	}
	return nil
}

// loaderArch returns the name the Boot Loader Specification uses.
func loaderArch(arch string) (string, error) {
	switch arch {
	case "x86_64":
		return "x64", nil
	case "arm64":
		return "aa64", nil
	}
	return "", fmt.Errorf("unknown architecture %q", arch)
}

func checkPath(path string) error {
	if !strings.HasPrefix(path, "/") || len(path) > 200 {
		return fmt.Errorf("%q is not an absolute path on the boot partition", path)
	}
	for _, r := range path {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+", r)) {
			return fmt.Errorf("path %q has a character the boot loader may misread", path)
		}
	}
	return nil
}

func checkOptions(options string) error {
	if len(options) > maxOptions {
		return fmt.Errorf("kernel options of %d bytes: more than %d", len(options), maxOptions)
	}
	for _, r := range options {
		if r < ' ' || r > '~' {
			return fmt.Errorf("kernel options hold %q, which is not printable ASCII", r)
		}
	}
	if strings.TrimSpace(options) != options {
		return errors.New("kernel options begin or end with a blank")
	}
	if strings.Contains(options, "phase.mode=") {
		return errors.New("kernel options set phase.mode, which is the entry's own")
	}
	return nil
}
