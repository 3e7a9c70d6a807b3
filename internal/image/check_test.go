package image

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/nettest"
	"github.com/phasebased/phase/internal/pefile/pefiletest"
)

func peFile(machine uint16) []byte { return pefiletest.Program(machine, "") }

func TestCheckLoader(t *testing.T) {
	edit := func(change func(b []byte)) []byte { b := peFile(0x8664); change(b); return b }
	for name, c := range map[string]struct {
		data []byte
		arch string
		want string // part of the error, "" for none
	}{
		"x86_64":            {peFile(0x8664), ArchX8664, ""},
		"arm64":             {peFile(0xaa64), ArchARM64, ""},
		"other machine":     {peFile(0xaa64), ArchX8664, "machine type"},
		"i386":              {peFile(0x014c), ArchX8664, "machine type"},
		"empty":             {nil, ArchX8664, "MZ"},
		"text":              {[]byte(strings.Repeat("placeholder ", 20)), ArchX8664, "MZ"},
		"truncated":         {peFile(0x8664)[:0x90], ArchX8664, "PE header"},
		"far header":        {edit(func(b []byte) { b[0x3f] = 0xff }), ArchX8664, "PE header"},
		"PE32":              {edit(func(b []byte) { b[0x99] = 1 }), ArchX8664, "PE32+"},
		"console program":   {edit(func(b []byte) { b[0x98+68] = 3 }), ArchX8664, "subsystem"},
		"no sections":       {edit(func(b []byte) { b[0x86] = 0 }), ArchX8664, "sections"},
		"unknown arch":      {peFile(0x8664), "riscv64", "unknown architecture"},
		"arch alias inside": {peFile(0x8664), "amd64", "unknown architecture"},
	} {
		err := CheckLoader(writeFile(t, "loader.efi", c.data), c.arch)
		checkRefusal(t, name, err, c.want)
	}
	if err := CheckLoader(filepath.Join(t.TempDir(), "none"), ArchX8664); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}

func checkRefusal(t *testing.T, name string, err error, want string) {
	t.Helper()
	if want == "" {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return
	}
	var fe *FileError
	if !errors.As(err, &fe) || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: got %v, want a FileError about %q", name, err, want)
	}
}

func TestCheckKernel(t *testing.T) {
	x86 := peFile(0x8664)
	copy(x86[0x202:], "HdrS")
	arm := peFile(0xaa64)
	copy(arm[56:], "ARM\x64")
	checkRefusal(t, "bzImage", CheckKernel(writeFile(t, "k", x86), ArchX8664), "")
	checkRefusal(t, "Image", CheckKernel(writeFile(t, "k", arm), ArchARM64), "")
	checkRefusal(t, "loader", CheckKernel(writeFile(t, "k", peFile(0x8664)), ArchX8664), "boot protocol")
	checkRefusal(t, "wrong arch", CheckKernel(writeFile(t, "k", arm), ArchX8664), "machine type")
}

func TestCheckProgram(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join(dir, "main.go")
	if err := os.WriteFile(src, []byte("package main\nfunc main() {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	static := filepath.Join(dir, "static")
	cmd := exec.Command("go", "build", "-o", static, src)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	checkRefusal(t, "static", CheckProgram(static, ArchX8664), "")
	checkRefusal(t, "wrong arch", CheckProgram(static, ArchARM64), "EM_X86_64")
	checkRefusal(t, "unknown arch", CheckProgram(static, "amd64"), "unknown")
	checkRefusal(t, "empty", CheckProgram(writeFile(t, "e", nil), ArchX8664), "EOF")
	checkRefusal(t, "script", CheckProgram(writeFile(t, "s", []byte("#!/bin/sh\nexec true\n")), ArchX8664), "magic")
	host := map[string]string{"amd64": ArchX8664, "arm64": ArchARM64}[runtime.GOARCH]
	checkRefusal(t, "dynamic", CheckProgram(nettest.Tool(t, "sh"), host), "dynamic")
}
