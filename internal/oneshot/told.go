package oneshot

import (
	"strings"

	"github.com/phasebased/phase/internal/guid"
)

// Told is what GRUB has said on the kernel's command line, as grub.cfg of package
// media has it. Its zero value is another boot loader.
type Told struct {
	Partition string // the GPT's id of the partition that GRUB came from
	OneShot   string // "", or one of the states
}

// What GRUB tells of an entry for one start.
const (
	stateLeft    = "left"    // its files are on the boot partition
	stateFailed  = "failed"  // it was to be started, and could not be
	stateStarted = "started" // this system is it
)

// maxCmdline bounds the command line that is read, in bytes; Linux takes 2,048.
const maxCmdline = 64 << 10

// ParseTold reads a kernel's command line. What nobody has said by the rules was
// not said: the medium's boot partition is looked for on its own disk anyway.
func ParseTold(cmdline string) (t Told) {
	if len(cmdline) > maxCmdline {
		return Told{}
	}
	for word := range strings.FieldsSeq(cmdline) {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "loader.partition":
			t.Partition = value
		case "loader.oneshot":
			t.OneShot = value // the last one counts: GRUB adds what happens
		}
	}
	switch t.OneShot {
	case "", stateLeft, stateFailed, stateStarted:
	default:
		t.OneShot = ""
	}
	if _, err := guid.Parse(t.Partition); err != nil {
		return Told{}
	}
	return t
}
