package pid1

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/sysinit"
	"github.com/phasebased/phase/internal/term"
	"github.com/phasebased/phase/internal/wifi"
)

func testSystem(t *testing.T) (*System, *strings.Builder) {
	t.Helper()
	log, screen := slog.New(slog.DiscardHandler), &strings.Builder{}
	s := &System{
		Log: log, Supervisor: sysinit.NewSupervisor(log),
		Console: term.New(term.Config{Out: screen, Now: func() time.Duration { return 0 }, ASCII: true}),
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { _ = s.Supervisor.Run(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	return s, screen
}

// testRadios are those of a system without the program.
func testRadios(t *testing.T, config bootcfg.WiFi) *Radios {
	t.Helper()
	s, _ := testSystem(t)
	r := s.NewRadios(config, false)
	r.dir = t.TempDir()
	r.program = filepath.Join(r.dir, "wpa_supplicant")
	return r
}

func TestProgramsAreReaped(t *testing.T) {
	s, _ := testSystem(t)
	for path, ok := range map[string]bool{"/bin/true": true, "/bin/false": false} {
		wait, _, err := s.startProgram(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := wait(); (err == nil) != ok {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, _, err := s.startProgram("/nonexistent/program", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a program that is not there: %v", err)
	}
}

// A program that ends only by force is ended, and that again does nothing.
func TestProgramsAreKilled(t *testing.T) {
	s, _ := testSystem(t)
	wait, kill, err := s.startProgram("/bin/sleep", []string{"1000"})
	if err != nil {
		t.Fatal(err)
	}
	kill()
	if err := wait(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("%v", err)
	}
	kill()
}

func TestRadiosWithoutTheProgram(t *testing.T) {
	networks := bootcfg.WiFi{Networks: []bootcfg.WiFiNetwork{{SSID: "home", Passphrase: "correct horse"}}}
	if err := testRadios(t, networks).Check(); !errors.Is(err, ErrNoWiFi) {
		t.Errorf("networks and no program: %v", err)
	}
	r := testRadios(t, bootcfg.WiFi{})
	if err := r.Check(); err != nil || len(r.Interfaces()) > 0 {
		t.Errorf("no networks: %v, %q", err, r.Interfaces())
	}
}

func TestRadiosSayWhatHappens(t *testing.T) {
	s, screen := testSystem(t)
	r := s.NewRadios(bootcfg.WiFi{}, false)
	r.report(wifi.Event{What: wifi.Started, Interface: "wlan0"})
	r.report(wifi.Event{What: wifi.Connected, Interface: "wlan0", SSID: "home\x1b[2J"})
	r.report(wifi.Event{What: wifi.Failed, Interface: "wlan0", SSID: "home", Err: &wifi.Error{Reason: wifi.WrongPassphrase, SSID: "home"}})
	got := strings.Join(strings.Fields(screen.String()), " ")
	if want := `wlan0: joined the wireless network home\x1b[2J wlan0: wifi: the passphrase of "home" is wrong`; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// A radio that was stopped is not started again by a card that appears meanwhile.
func TestRadiosStop(t *testing.T) {
	r := testRadios(t, bootcfg.WiFi{})
	first := r.Start(t.Context(), "phase-none0") // which cannot be driven
	if r.Start(t.Context(), "phase-none0") != first {
		t.Error("one interface is driven twice")
	}
	r.Stop()
	r.Start(t.Context(), "phase-none0")
	if len(r.running) > 0 {
		t.Error("driven after it was stopped")
	}
}
