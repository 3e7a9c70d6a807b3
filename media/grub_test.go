package media

import (
	"slices"
	"strings"
	"testing"
)

func goodGrub() GrubData {
	return GrubData{Timeout: 10, Default: "local", Linux: "/phase/x86_64/vmlinuz", Initrds: []string{"/phase/x86_64/initramfs.img"}, Options: "console=ttyS0 a=$b;{c}"}
}

func TestGrubConf(t *testing.T) {
	got, err := GrubConf(goodGrub())
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"set superusers=nobody", "set timeout=10", "set default=local", "terminal_output console",
		"menuentry 'Phase Boot — Internet Mode' --id internet --unrestricted {",
		"menuentry 'Phase Boot — Local Mode' --id local --unrestricted {",
		"menuentry 'Phase Boot — Private Mode' --id private --unrestricted {",
		"  linux /phase/x86_64/vmlinuz 'phase.mode=private' 'efi_pstore.pstore_disable=1' 'pstore.backend=none' 'console=ttyS0' 'a=$b;{c}' $told",
		"  initrd /phase/x86_64/initramfs.img",
	} {
		if !strings.Contains(got, "\n"+line+"\n") {
			t.Errorf("no line %q in:\n%s", line, got)
		}
	}
	if strings.Count(got, "menuentry") != len(Modes()) || strings.Count(got, "--unrestricted") != len(Modes()) {
		t.Errorf("other entries than the modes:\n%s", got)
	}
}

// TestGrubMenuIsThatOfSystemdBoot: who knows one menu knows the other.
func TestGrubMenuIsThatOfSystemdBoot(t *testing.T) {
	g := goodGrub()
	text, err := GrubConf(g)
	if err != nil {
		t.Fatal(err)
	}
	var titles []string
	for line := range strings.Lines(text) {
		if rest, is := strings.CutPrefix(line, "menuentry '"); is {
			title, _, _ := strings.Cut(rest, "'")
			titles = append(titles, title)
		}
	}
	var want []string
	for _, mode := range Modes() {
		entry, err := Entry(EntryData{Mode: mode, Arch: "x86_64", Linux: g.Linux, Initrd: g.Initrds[0]})
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, valueOf(entry, "title"))
	}
	if !slices.Equal(titles, want) {
		t.Errorf("titles %q, want %q", titles, want)
	}
}

func TestGrubConfRefuses(t *testing.T) {
	for name, change := range map[string]func(*GrubData){
		"timeout":              func(g *GrubData) { g.Timeout = -1 },
		"default":              func(g *GrubData) { g.Default = "internet\nset superusers=" },
		"no kernel":            func(g *GrubData) { g.Linux = "" },
		"no initrd":            func(g *GrubData) { g.Initrds = nil },
		"second initrd":        func(g *GrubData) { g.Initrds = append(g.Initrds, "/a;reboot") },
		"variable in path":     func(g *GrubData) { g.Linux = "/$a" },
		"quote in options":     func(g *GrubData) { g.Options = "a='b'" },
		"quotes in options":    func(g *GrubData) { g.Options = `a="b"` },
		"backslash in options": func(g *GrubData) { g.Options = `a=\x20` },
		"newline in options":   func(g *GrubData) { g.Options = "a\n}" },
		"a second mode":        func(g *GrubData) { g.Options = "phase.mode=private" },
	} {
		g := goodGrub()
		change(&g)
		if got, err := GrubConf(g); err == nil {
			t.Errorf("%s: accepted as\n%s", name, got)
		}
	}
}

func TestGrubEnvironment(t *testing.T) {
	block := GrubEnvironment()
	if len(block) != 1024 || strings.Trim(strings.TrimPrefix(string(block), "# GRUB Environment Block\n"), "#") != "" {
		t.Errorf("%q", block)
	}
}
