package handover

import (
	"regexp"
	"slices"
	"strings"
)

// MaxCmdline is the longest command line that every kernel takes
// (COMMAND_LINE_SIZE is 2048 on x86 and arm64, with the closing NUL).
const MaxCmdline = 2047

// loaderRoom is what a boot loader may put before a command line: where the initrd
// is (package oneshot).
const loaderRoom = 32

// maxConsoles is how many consoles of the seed are named to the next kernel.
const maxConsoles = 4

// noLastWords names a backend of pstore that does not exist, so that none is taken:
// neither the firmware's variables nor any other memory that outlasts the machine's
// run.
const noLastWords = "pstore.backend=none"

var (
	consoleWord = regexp.MustCompile(`^console=[A-Za-z0-9,_:.-]{1,64}$`)
	rsdpAddress = regexp.MustCompile(`^0x[0-9A-Fa-f]{1,16}$`)
)

// MachineWords are the words that this machine needs behind a release's signed
// command line, one blank between them: the publisher cannot know them.
//
//   - The consoles that the seed was started with, if the signed line names none:
//     else nobody would see the new system on a serial port.
//   - Where ACPI's tables begin, if the seed was told by acpi_rsdp= itself or runs
//     without EFI's runtime services. Then the next kernel learns nothing of EFI
//     across a kexec, and would find neither interrupts nor disks. A restart goes
//     through the firmware, which tells it.
//   - That nobody keeps a panicking kernel's last words (noLastWords), if the seed
//     was started so, as media do in Private mode.
//
// Nothing else of the seed's line gets through. There are no words where they do
// not fit into MaxCmdline, less loaderRoom for a restart, nor where the signed line has a "--", behind which
// words are init's.
func MachineWords(signed string, m Machine, rung Rung) string {
	line := strings.Fields(signed)
	if slices.Contains(line, "--") {
		return ""
	}
	room := MaxCmdline - len(signed)
	if rung == RungRestart {
		room -= loaderRoom
	}
	var words []string
	add := func(word string) {
		if len(word)+1 <= room {
			words, room = append(words, word), room-len(word)-1
		}
	}
	if !hasKey(line, "acpi_rsdp") && rung != RungRestart {
		if at := rsdp(m); at != "" {
			add("acpi_rsdp=" + at)
		}
	}
	if slices.Contains(strings.Fields(m.Cmdline), noLastWords) && !hasKey(line, "pstore.backend") {
		add(noLastWords)
	}
	if !hasKey(line, "console") {
		for _, word := range consoles(m.Cmdline) {
			add(word)
		}
	}
	return strings.Join(words, " ")
}

// commandLine is the signed line with the machine's words.
func commandLine(signed string, m Machine, rung Rung) string {
	switch words := MachineWords(signed, m, rung); {
	case words == "":
		return signed
	case signed == "":
		return words
	default:
		return signed + " " + words
	}
}

func hasKey(words []string, key string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, key+"=") })
}

// rsdp is what the next kernel must be told, or nothing.
func rsdp(m Machine) string {
	at, words := "", strings.Fields(m.Cmdline)
	for _, word := range words {
		switch key, value, _ := strings.Cut(word, "="); {
		case key == "acpi_rsdp":
			return address(value)
		case key == "noefi", key == "efi" && slices.Contains(strings.Split(value, ","), "noruntime"):
			at = address(m.RSDP)
		}
	}
	return at
}

func address(s string) string {
	if !strings.HasPrefix(s, "0x") {
		s = "0x" + s
	}
	if !rsdpAddress.MatchString(s) {
		return ""
	}
	return s
}

// consoles are those of a command line, the last ones if there are too many: the
// very last is the main one.
func consoles(cmdline string) (list []string) {
	for _, word := range strings.Fields(cmdline) {
		if consoleWord.MatchString(word) {
			list = append(list, word)
		}
	}
	return list[max(0, len(list)-maxConsoles):]
}
