package system

import (
	"bytes"
	"debug/elf"
	"strings"
	"testing"
)

// busyboxDeb is a package of the shell with that program in it.
func busyboxDeb(program string) fakeDeb {
	files := map[string]string{"usr/share/doc/busybox-static/copyright": "GPL"}
	if program != "" {
		files[shellProgram] = program
	}
	return fakeDeb{shellPackage, "", files}
}

func TestSeedWithShell(t *testing.T) {
	src := wifiSources(t, append(wifiDebs(), busyboxDeb(string(fakeELF(elf.EM_X86_64, "applets", ""))))...)
	src.Shell = true
	in, err := Prepare(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	dir, root := t.TempDir(), testRoot(t)
	init := buildGo(t, dir, "init", "package main\nfunc main() {}\n")
	for _, shell := range []bool{true, false} {
		b := &Build{Inputs: in, Version: "0.0.1", Time: buildTime}
		out, _, err := b.Seed(t.Context(), SeedConfig{Out: dir + "/seed", Pid1: init, Init: init, Root: root, Shell: shell})
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(unpackSeed(t, out.Path), []byte("applets")) != shell {
			t.Errorf("asked for a shell: %v; the seed is otherwise", shell)
		}
	}
}

// TestShellRefused: what would not run on the machine is not put on a medium.
func TestShellRefused(t *testing.T) {
	for name, c := range map[string]struct {
		deb  []fakeDeb
		want string
	}{
		"no package":            {nil, shellPackage},
		"no program":            {[]fakeDeb{busyboxDeb("")}, "has no bin/busybox"},
		"needs libraries":       {[]fakeDeb{busyboxDeb(string(fakeELF(elf.EM_X86_64, "x", fakeLoader, "libc.so.6")))}, "it needs libraries"},
		"needs a loader only":   {[]fakeDeb{busyboxDeb(string(fakeELF(elf.EM_X86_64, "x", fakeLoader)))}, "it needs libraries"},
		"of other machines":     {[]fakeDeb{busyboxDeb(string(fakeELF(elf.EM_AARCH64, "x", "")))}, shellProgram},
		"a link in its place":   {[]fakeDeb{busyboxDeb("->../../etc/passwd")}, "bin/busybox"},
		"no program but a text": {[]fakeDeb{busyboxDeb("#!/bin/sh\n")}, shellProgram},
	} {
		t.Run(name, func(t *testing.T) {
			src := wifiSources(t, append(wifiDebs(), c.deb...)...)
			src.Shell = true
			if _, err := Prepare(t.Context(), src); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	src := wifiSources(t, wifiDebs()...)
	in, err := Prepare(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	init := buildGo(t, dir, "init", "package main\nfunc main() {}\n")
	b := &Build{Inputs: in, Version: "0.0.1", Time: buildTime}
	if _, _, err := b.Seed(t.Context(), SeedConfig{Out: dir + "/seed", Pid1: init, Init: init, Root: testRoot(t), Shell: true}); err == nil || !strings.Contains(err.Error(), "inputs without") {
		t.Errorf("a seed with a shell that nobody gathered: %v", err)
	}
}
