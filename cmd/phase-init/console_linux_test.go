package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/dialog"
	"github.com/phasebased/phase/internal/handover"
	"github.com/phasebased/phase/internal/sysinit"
)

func TestChooseMode(t *testing.T) {
	for name, c := range map[string]struct {
		now   bootcfg.Mode
		typed string
		want  bootcfg.Mode
		err   error
		told  string
	}{
		"to local":                 {bootcfg.Internet, "2\r", bootcfg.Local, nil, "Local Mode"},
		"the same":                 {bootcfg.Local, "2\r", bootcfg.Local, dialog.ErrLeft, "That is the mode of this boot."},
		"into private":             {bootcfg.Internet, "3\ryes\r", bootcfg.Private, nil, "may have written to the medium"},
		"into private, not really": {bootcfg.Internet, "3\r\r", bootcfg.Private, dialog.ErrLeft, "reboot (b)"},
		"out of private":           {bootcfg.Private, "1\ryes\r", bootcfg.Internet, nil, "this boot writes to the medium"},
		"out of private, no":       {bootcfg.Private, "1\rno\r", bootcfg.Internet, dialog.ErrLeft, ""},
		"asked again":              {bootcfg.Internet, "\r9\r2\r", bootcfg.Local, nil, "Type a number from 1 to 3"},
		"left":                     {bootcfg.Internet, "\x1b", bootcfg.Internet, dialog.ErrLeft, ""},
	} {
		p := newPerson(t.Context(), c.now, c.typed)
		got, err := p.chooseMode(t.Context())
		if !errors.Is(err, c.err) || err == nil && got != c.want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
		if shown := strings.Join(strings.Fields(p.screen.String()), " "); !strings.Contains(shown, c.told) {
			t.Errorf("%s: the screen shows\n%s", name, p.screen.String())
		}
	}
}

// TestFirstMode: a digit that comes alone chooses, noise does not, and nobody has to
// be there.
func TestFirstMode(t *testing.T) {
	const soon, late = 10 * time.Millisecond, patience
	for name, c := range map[string]struct {
		usual bootcfg.Mode
		typed string
		wait  time.Duration
		want  bootcfg.Mode
		told  string
	}{
		"nobody there":       {bootcfg.Local, "", soon, bootcfg.Local, "Local Mode starts after 10ms"},
		"internet":           {bootcfg.Private, "1", late, bootcfg.Internet, "1 Internet Mode"},
		"local":              {bootcfg.Internet, "2", late, bootcfg.Local, "2 Local Mode"},
		"private":            {bootcfg.Internet, "3", late, bootcfg.Private, "3 Private Mode"},
		"a digit and Enter":  {bootcfg.Internet, "3\r", late, bootcfg.Private, ""},
		"the default":        {bootcfg.Private, "\r", late, bootcfg.Private, "(default)"},
		"noise":              {bootcfg.Private, "login: 1", soon, bootcfg.Private, ""},
		"another key waits":  {bootcfg.Private, "x", late, bootcfg.Private, "Waiting for a key."},
		"no such mode waits": {bootcfg.Local, "4", late, bootcfg.Local, "Waiting for a key."},
	} {
		p := newPerson(t.Context(), c.usual, c.typed)
		p.ask.Idle = soon
		if got := p.firstMode(t.Context(), c.wait); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		if shown := strings.Join(strings.Fields(p.seen(t)), " "); !strings.Contains(shown, c.told) {
			t.Errorf("%s: the screen shows\n%s", name, p.screen.String())
		}
	}
}

// TestModeOutlivesTheProgram: who asked for Private mode gets no other because the
// program was started again, and what cannot be read is Private.
func TestModeOutlivesTheProgram(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mode")
	line := "quiet phase.mode=internet phase.channel=stable"
	mode := func() bootcfg.Mode {
		config, err := bootcfg.Parse(withMode(line, file), nil, nil, "x86_64")
		if err != nil {
			t.Fatal(err)
		}
		return config.Mode
	}
	if got := mode(); got != bootcfg.Internet {
		t.Errorf("nothing chosen: %v", got)
	}
	for content, want := range map[string]bootcfg.Mode{
		"local": bootcfg.Local, "private": bootcfg.Private, "internet": bootcfg.Internet, "": bootcfg.Private, "inter": bootcfg.Private, strings.Repeat("x", 99): bootcfg.Private,
		"local phase.x=": bootcfg.Private, "local\n": bootcfg.Private, "LOCAL": bootcfg.Private,
	} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := mode(); got != want {
			t.Errorf("%q: %v, want %v", content, got, want)
		}
	}
	file = t.TempDir() // cannot be read as a file
	if got := mode(); got != bootcfg.Private {
		t.Errorf("unreadable: %v", got)
	}
}

// TestPrivateSinceTheMenu: the next kernel keeps no last words in Private mode, also
// where this one was started in another.
func TestPrivateSinceTheMenu(t *testing.T) {
	machine := handover.Machine{Cmdline: "quiet console=ttyS0\n"}
	for mode, want := range map[bootcfg.Mode]bool{bootcfg.Internet: false, bootcfg.Local: false, bootcfg.Private: true} {
		words := handover.MachineWords("quiet", silent(machine, mode), handover.RungFile)
		if strings.Contains(words, "pstore.backend=none") != want || !strings.Contains(words, "console=ttyS0") {
			t.Errorf("%v: %q", mode, words)
		}
	}
}

func TestLogLines(t *testing.T) {
	log := "<6>[    0.000000] Linux version 6.1\n<6>[    1.500000] phase: time=2026-01-01T00:00:00Z level=INFO msg=image\n<3>[    2.000000] phase-pid1: panic: x\n[    3.000000] plain\n"
	if got, want := logLines(log, false), []string{"[    0.000000] Linux version 6.1", "[    1.500000] phase: level=INFO msg=image", "[    2.000000] phase-pid1: panic: x", "[    3.000000] plain"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if got := logLines(log, true); len(got) != 2 {
		t.Errorf("%q", got)
	}
}

func TestPager(t *testing.T) {
	var lines []string
	for i := range 50 {
		lines = append(lines, "line "+string(rune('A'+i/10))+string(rune('0'+i%10)))
	}
	p := newPerson(t.Context(), bootcfg.Internet, "o\ro\ro\rn\r\r")
	if err := p.page(t.Context(), lines); err != nil {
		t.Fatal(err)
	}
	screen := strings.Join(strings.Fields(p.screen.String()), " ")
	for _, want := range []string{"Lines 33 to 50 of 50", "Lines 15 to 32 of 50", "Lines 1 to 18 of 50", "Lines 19 to 36 of 50"} {
		if !strings.Contains(screen, want) {
			t.Errorf("not shown: %s\n%s", want, p.screen.String())
		}
	}
	p = newPerson(t.Context(), bootcfg.Internet, "\r")
	if err := p.page(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

func TestDiagnosticsHoldNoSecrets(t *testing.T) {
	network := bootcfg.Network{Proxy: "http://me:sesame@proxy.example:3128", WiFi: bootcfg.WiFi{Networks: []bootcfg.WiFiNetwork{{SSID: "home", Passphrase: "correct horse"}}}}
	tor := bootcfg.Tor{Bridges: []string{"192.0.2.1:443 0123456789"}}
	leak := "the log of correct horse, sesame and 192.0.2.1:443 0123456789"
	files := append(stageFiles(fstest.MapFS{
		"01-network.json": {Data: []byte(`{"note":"correct horse"}`)}, "mode": {Data: []byte("private")}, "cache/x.json": {Data: []byte("x")},
	}), diagnostic{"kernel.log", []byte(leak)}, diagnostic{"long", bytes.Repeat([]byte("y"), maxDiagnostic+5)}, document("configuration.json", bootcfg.Config{Network: network}))
	packed, err := pack("folder", files, redactor{secrets: secrets(network, tor)}, time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	zip, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for archive := tar.NewReader(zip); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		data, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{"horse", "sesame", "0123456789"} {
			if bytes.Contains(data, []byte(secret)) {
				t.Errorf("%s holds %q", h.Name, secret)
			}
		}
		if len(data) > maxDiagnostic+10 {
			t.Errorf("%s has %d bytes", h.Name, len(data))
		}
	}
	if want := []string{"folder/stages/01-network.json", "folder/kernel.log", "folder/long", "folder/configuration.json"}; !slices.Equal(names, want) {
		t.Errorf("%q", names)
	}
}

// TestRedact: a secret is taken out in whatever form it stands, and in a boot whose
// configuration could not be read.
func TestRedact(t *testing.T) {
	network := bootcfg.Network{Proxy: "http://me:ses%40me1@proxy.example:3128", WiFi: bootcfg.WiFi{Networks: []bootcfg.WiFiNetwork{{SSID: "home", Passphrase: `a<b"c\d`}}}}
	tor := bootcfg.Tor{Bridges: []string{"192.0.2.1:443 0123456789ABCDEF"}}
	known := redactor{secrets: secrets(network, tor)}
	for in, want := range map[string]string{
		`key a<b"c\d.`:                    "key [removed].",
		`log "a<b\"c\\d"`:                 `log "[removed]"`,
		`{"x":"a\u003cb\"c\\d"}`:          `{"x":"[removed]"}`,
		"password ses@me1":                "password [removed]",
		"connection to 192.0.2.1 timed":   "connection to [removed] timed",
		"relay $0123456789ABCDEF~x":       "relay $[removed]~x",
		"no more than this":               "no more than this",
		"52:54:00:a1:b2:c3 link":          "52:54:00:a1:b2:c3 link",
		"http://mirror.example/a@b":       "http://mirror.example/a@b",
		`"url":"https://u:p@x.example/y"`: `"url":"https://[removed]@x.example/y"`,
	} {
		if got := string(known.redact([]byte(in))); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	unread := redactor{private: true}
	for in, want := range map[string]string{
		"quiet phase.proxy=http://me:pw@p:1 ro":                 "quiet phase.proxy=[removed] ro",
		`quiet phase.proxy="me pw" ro`:                          "quiet phase.proxy=[removed] ro",
		`quiet "phase.proxy=me pw" ro`:                          `quiet "phase.proxy=[removed]" ro`,
		`Phase.Proxy=me`:                                        "Phase.Proxy=[removed]",
		"phase.provider=http://me:p@ss@mirror.example/x phase.": "phase.provider=http://[removed]@mirror.example/x phase.",
		"eth0: 52:54:00:a1:b2:c3, 52-54-00-A1-B2-C3":            "eth0: 52:54:00:xx:xx:xx, 52-54-00:xx:xx:xx",
		"pci 0000:00:1f.2 at 12:34:56":                          "pci 0000:00:1f.2 at 12:34:56",
	} {
		if got := string(unread.redact([]byte(in))); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// TestWhereToSave: nothing is chosen by itself, the medium and Private mode want a
// clear yes.
func TestWhereToSave(t *testing.T) {
	list := []place{
		{Volume: sysinit.Volume{Device: "/dev/sdb1", Size: 8 << 30, Model: "ACME Stick"}, system: "vfat"},
		{Volume: sysinit.Volume{Device: "/dev/sda1", Size: 288 << 20, Label: "phase-esp"}, system: "vfat", ours: true},
	}
	p := newPerson(t.Context(), bootcfg.Internet, "\r3\r2\r")
	got, err := p.place(t.Context(), list)
	if err != nil || !got.ours {
		t.Errorf("%+v, %v", got, err)
	}
	for _, want := range []string{"/dev/sdb1", "ACME Stick", "(the boot medium)", "Type a number from 1 to 2"} {
		if !strings.Contains(p.screen.String(), want) {
			t.Errorf("not shown: %s\n%s", want, p.screen.String())
		}
	}
	for typed, want := range map[string]error{"yes\r": nil, "\r": dialog.ErrLeft, "no\r": dialog.ErrLeft, "y\ryes\r": nil, "\x1b": dialog.ErrLeft} {
		if err := newPerson(t.Context(), bootcfg.Private, typed).confirm(t.Context(), "Really."); !errors.Is(err, want) {
			t.Errorf("%q: %v", typed, err)
		}
	}
}
