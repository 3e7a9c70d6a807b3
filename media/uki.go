package media

import (
	"fmt"
	"strings"
)

// UKI is what tells the unified kernel images of a medium apart.
type UKI struct {
	Name      string // of the file in /EFI/Linux
	Cmdline   string // of the kernel
	OSRelease string // from which the menu takes title and order, as os-release(5)
}

// UKIOf returns what the unified kernel image of a mode holds: title, order and
// options are those of the mode's entry. Of e, Mode, Arch and Options count. version is
// shown by tools that list such images.
func UKIOf(e EntryData, version string) (UKI, error) {
	e.Linux, e.Initrd = "/kernel", "/initrd" // inside the image
	text, err := Entry(e)
	if err != nil {
		return UKI{}, err
	}
	values := map[string]string{}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		values[key] = value
	}
	for _, r := range version {
		if r <= ' ' || r > '~' || strings.ContainsRune("\"'\\$`", r) {
			return UKI{}, fmt.Errorf("version %q has a character that an os-release cannot show", version)
		}
	}
	return UKI{
		Name:    "phase-" + e.Mode + "-" + e.Arch + ".efi",
		Cmdline: values["options"],
		// systemd-boot sorts by IMAGE_ID.
		OSRelease: fmt.Sprintf("ID=phase\nNAME=\"Phase Boot\"\nPRETTY_NAME=%q\nIMAGE_ID=%s\nIMAGE_VERSION=%q\n",
			values["title"], values["sort-key"], version),
	}, nil
}

// UKILoaderConf is LoaderConf for a medium with unified kernel images. Nobody signs
// this file: it chooses which image starts when no key is pressed, and when.
func UKILoaderConf(timeout int, def string) (string, error) {
	text, err := LoaderConf(timeout, def)
	return strings.Replace(text, "\ndefault "+def+"*.conf\n", "\ndefault *"+def+"*\n", 1), err
}
