package system

import (
	"bytes"
	"debug/elf"
	"errors"
	"slices"
	"strings"
	"testing"
)

// torDebs are the packages of a small Tor, with libraries that Wi-Fi has as well.
func torDebs() []fakeDeb {
	x := func(marker, interp string, needs ...string) string {
		return string(fakeELF(elf.EM_X86_64, marker, interp, needs...))
	}
	return append(wifiDebs(),
		fakeDeb{"tor", "libc6 (>= 2.36), zlib1g, adduser", map[string]string{
			"usr/bin/tor": x("onions", fakeLoader, "libz.so.1", "libc.so.6"), "usr/sbin/tor": "->../bin/tor", "usr/bin/tor-gencert": x("gencert", fakeLoader),
			"usr/share/tor/geoip": "countries",
		}},
		fakeDeb{"zlib1g", "libc6", map[string]string{libDir + "libz.so.1": x("zlib", "", "libc.so.6")}},
	)
}

func TestSeedWithTor(t *testing.T) {
	src := wifiSources(t, torDebs()...)
	src.Tor = true
	in, err := Prepare(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{libDir + "libc.so.6", libDir + "libz.so.1", "lib64/ld-linux-x86-64.so.2", "usr/bin/tor"}
	if got := keysOf(in.Tor.Files); !slices.Equal(got, want) || TorPath != "/usr/bin/tor" {
		t.Errorf("got %v\nwant %v", got, want)
	}
	for _, name := range []string{"tor", "zlib1g", "libc6"} {
		if !slices.ContainsFunc(in.Materials, func(m Material) bool { return m.Name == name }) {
			t.Errorf("the bill of materials lacks %s", name)
		}
	}
	b, dir, root := &Build{Inputs: in, Version: "0.0.1", Time: buildTime}, t.TempDir(), testRoot(t)
	init := buildGo(t, dir, "init", "package main\nfunc main() {}\n")
	cfg := SeedConfig{Out: dir + "/seed", Pid1: init, Init: init, Root: root, Tor: true}
	for _, wifi := range []bool{false, true} { // both have the same libc
		cfg.WiFi = wifi
		out, _, err := b.Seed(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		archive := unpackSeed(t, out.Path)
		for _, want := range []string{"usr/bin/tor\x00", "onions", libDir + "libz.so.1\x00", "lib64/ld-linux-x86-64.so.2\x00"} {
			if !bytes.Contains(archive, []byte(want)) {
				t.Errorf("the seed lacks %q", want)
			}
		}
		for _, not := range []string{"gencert", "countries"} {
			if bytes.Contains(archive, []byte(not)) {
				t.Errorf("the seed has %q, which is not needed", not)
			}
		}
	}
	cfg.Tor = false
	if plain, _, err := b.Seed(t.Context(), cfg); err != nil || bytes.Contains(unpackSeed(t, plain.Path), []byte("onions")) {
		t.Errorf("a seed without Tor has it: %v", err)
	}
	b.Inputs.Tor, cfg.Tor = nil, true
	if _, _, err := b.Seed(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "inputs without") {
		t.Errorf("a seed with Tor from nowhere: %v", err)
	}
}

func TestTorWithoutItsLibrary(t *testing.T) {
	debs := slices.DeleteFunc(torDebs(), func(d fakeDeb) bool { return d.name == "zlib1g" })
	i := slices.IndexFunc(debs, func(d fakeDeb) bool { return d.name == "tor" })
	debs[i].depends = "libc6"
	src := wifiSources(t, debs...)
	src.Tor = true
	_, err := Prepare(t.Context(), src)
	var missing *LibraryError
	if !errors.As(err, &missing) || missing.Library != "libz.so.1" || missing.NeededBy != "usr/bin/tor" {
		t.Errorf("%v", err)
	}
}
