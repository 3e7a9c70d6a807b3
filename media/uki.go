package media

import (
	"fmt"
	"strings"
)

// UKI is what the unified kernel image of a medium says beside kernel and initramfs.
type UKI struct {
	Cmdline   string // of the kernel
	OSRelease string // as os-release(5), for tools that look into such images
}

// UKIOf returns what the one unified kernel image of a medium holds. No boot loader
// shows a menu before it: the seed asks in which mode to boot, for menu seconds, and
// takes e.Mode if nobody answers; 0 does not ask. Of e, Mode, Arch and Options count.
// Since any mode may be chosen, the kernel has the options of Private's entry in all of
// them. version is shown by tools that list such images.
func UKIOf(e EntryData, menu int, version string) (UKI, error) {
	if err := checkMenu(menu, e.Mode); err != nil {
		return UKI{}, err
	}
	const strictest = "private"
	mode := e.Mode
	e.Mode, e.Linux, e.Initrd = strictest, "/kernel", "/initrd" // inside the image
	text, err := Entry(e)
	if err != nil {
		return UKI{}, err
	}
	options, ok := strings.CutPrefix(valueOf(text, "options"), "phase.mode="+strictest+" ")
	if !ok {
		return UKI{}, fmt.Errorf("the entry of %s mode does not begin with its mode", strictest)
	}
	for _, r := range version {
		if r <= ' ' || r > '~' || strings.ContainsRune("\"'\\$`", r) {
			return UKI{}, fmt.Errorf("version %q has a character that an os-release cannot show", version)
		}
	}
	return UKI{
		Cmdline:   fmt.Sprintf("phase.mode=%s phase.menu=%d %s", mode, menu, options),
		OSRelease: fmt.Sprintf("ID=phase\nNAME=\"Phase Boot\"\nPRETTY_NAME=\"Phase Boot\"\nIMAGE_ID=phase\nIMAGE_VERSION=%q\n", version),
	}, nil
}
