package media

import (
	"strings"
	"testing"
)

func good() EntryData {
	return EntryData{Mode: "internet", Arch: "x86_64", Linux: "/phase/x86_64/vmlinuz", Initrd: "/phase/x86_64/initramfs.img", Options: "console=ttyS0 quiet"}
}

func TestLoaderConf(t *testing.T) {
	got, err := LoaderConf(10, "internet")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"timeout 10", "default internet*.conf", "console-mode max", "editor no"} {
		if !strings.Contains(got, "\n"+line+"\n") {
			t.Errorf("no line %q in:\n%s", line, got)
		}
	}
	for _, c := range []struct {
		timeout int
		def     string
	}{{-1, "internet"}, {3601, "internet"}, {1, ""}, {1, "internet.conf"}, {1, "internet\neditor yes"}} {
		if got, err := LoaderConf(c.timeout, c.def); err == nil {
			t.Errorf("LoaderConf(%d, %q) = %q, want an error", c.timeout, c.def, got)
		}
	}
}

func TestEntries(t *testing.T) {
	titles := []string{"Phase Boot — Internet Mode", "Phase Boot — Local Mode", "Phase Boot — Private Mode"}
	// What a panicking kernel has to say is not kept in the firmware's variables.
	own := map[string]string{"private": " efi_pstore.pstore_disable=1 pstore.backend=none"}
	for n, mode := range Modes() {
		e := good()
		e.Mode = mode
		got, err := Entry(e)
		if err != nil {
			t.Fatal(err)
		}
		want := "title " + titles[n] + "\nsort-key phase-" + string(rune('1'+n)) +
			"\narchitecture x64\nlinux /phase/x86_64/vmlinuz\ninitrd /phase/x86_64/initramfs.img\noptions phase.mode=" + mode + own[mode] + " console=ttyS0 quiet\n"
		if got != want {
			t.Errorf("%s:\n%s\nwant\n%s", mode, got, want)
		}
	}
}

func TestEntryWithoutOptionsOnARM(t *testing.T) {
	e := good()
	e.Arch, e.Options = "arm64", ""
	got, err := Entry(e)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(got, "\narchitecture aa64\n") || !strings.HasSuffix(got, "\noptions phase.mode=internet\n") {
		t.Errorf("got\n%s", got)
	}
}

func TestEntryRefuses(t *testing.T) {
	for name, change := range map[string]func(*EntryData){
		"mode":                  func(e *EntryData) { e.Mode = "../loader" },
		"empty mode":            func(e *EntryData) { e.Mode = "" },
		"architecture alias":    func(e *EntryData) { e.Arch = "amd64" },
		"relative kernel":       func(e *EntryData) { e.Linux = "vmlinuz" },
		"no initrd":             func(e *EntryData) { e.Initrd = "" },
		"blank in path":         func(e *EntryData) { e.Linux = "/a b" },
		"newline in path":       func(e *EntryData) { e.Initrd = "/a\noptions x" },
		"long path":             func(e *EntryData) { e.Linux = "/" + strings.Repeat("a", 200) },
		"newline in options":    func(e *EntryData) { e.Options = "a\ninitrd /evil" },
		"return in options":     func(e *EntryData) { e.Options = "a\rb" },
		"not ASCII":             func(e *EntryData) { e.Options = "a=ü" },
		"leading blank":         func(e *EntryData) { e.Options = " a" },
		"a second mode":         func(e *EntryData) { e.Options = "phase.mode=private" },
		"options beyond limits": func(e *EntryData) { e.Options = strings.Repeat("a", maxOptions+1) },
	} {
		e := good()
		change(&e)
		if got, err := Entry(e); err == nil {
			t.Errorf("%s: accepted as\n%s", name, got)
		}
	}
}

func TestFilesArePresent(t *testing.T) {
	if !strings.Contains(string(Policy()), "cache_enabled") || !strings.Contains(string(BootstrapNodes()), "[[bootstrap]]") {
		t.Error("a file of the medium is missing or empty")
	}
}
