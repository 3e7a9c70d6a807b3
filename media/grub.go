package media

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// GrubData is what differs between the menus of two media that GRUB starts. It
// serves x86_64 only.
type GrubData struct {
	// Timeout is in seconds, and Default one of Modes, as for LoaderConf.
	Timeout int
	Default string
	// Linux and Initrds are absolute paths on the boot partition.
	Linux   string
	Initrds []string
	// Options are further kernel options, as in EntryData. GRUB would put backslashes
	// before quotes and backslashes; so there are none.
	Options string
}

// GrubConf returns boot/grub/grub.cfg: the entries of Entry, with the same titles
// in the same order, for GRUB.
func GrubConf(g GrubData) (string, error) {
	if err := checkMenu(g.Timeout, g.Default); err != nil {
		return "", err
	}
	if len(g.Initrds) == 0 {
		return "", errors.New("the menu needs an initrd")
	}
	type entry struct {
		Mode, Title, Linux string
		Initrds, Options   []string
	}
	var entries []entry
	for _, mode := range Modes() {
		// What Entry refuses is refused here, and what it makes of it is what counts.
		text, err := Entry(EntryData{Mode: mode, Arch: "x86_64", Linux: g.Linux, Initrd: g.Initrds[0], Options: g.Options})
		if err != nil {
			return "", err
		}
		e := entry{Mode: mode, Title: valueOf(text, "title"), Linux: g.Linux, Initrds: g.Initrds, Options: strings.Fields(valueOf(text, "options"))}
		entries = append(entries, e)
	}
	for _, path := range g.Initrds {
		if err := checkPath(path); err != nil {
			return "", err
		}
	}
	if i := strings.IndexAny(g.Options, `'"\`); i >= 0 {
		return "", fmt.Errorf("kernel options hold %q, which GRUB does not pass on as it is", g.Options[i])
	}
	return render("grub.cfg", struct {
		Timeout int
		Default string
		Entries []entry
	}{g.Timeout, g.Default, entries})
}

// valueOf is the value of a key of an entry.
func valueOf(text, key string) string {
	for line := range strings.Lines(text) {
		if k, v, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " "); k == key {
			return v
		}
	}
	return ""
}

// GrubEnvironment returns boot/grub/grubenv: GRUB's environment block, 1,024 bytes
// in which it keeps variables between starts, with none in it (GNU GRUB manual,
// "The GRUB environment block").
func GrubEnvironment() []byte {
	const head = "# GRUB Environment Block\n"
	return append([]byte(head), bytes.Repeat([]byte{'#'}, 1024-len(head))...)
}
