package vm_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/vm"
)

// TestTorIsNotCarried boots a medium without Tor on which somebody asks for it: the
// boot is refused, although there is a provider and everything would work without.
func TestTorIsNotCarried(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(b.release(1), "")
	b.serve()
	b.medium(lab.ImageOptions{Mode: "private", Options: "phase.tor=on"})
	outcome, console := b.boot(lab.BootOptions{})
	b.refused(outcome, console, "TOR-001", "this boot must go through Tor, and Tor cannot be started")
	if strings.Contains(console, "eth0 10.") {
		t.Errorf("the network was brought up:\n%s", calm(console))
	}
}

// TestTorHasNobody boots a medium with Tor in a network where no relay answers: Tor
// runs there, as its own user, behind the kernel's rules, and the provider beside it
// is not asked. What it does where relays answer, test/net shows.
func TestTorHasNobody(t *testing.T) {
	t.Parallel()
	b := setup(t)
	work, err := filepath.Abs(filepath.Join(repository, "build", "lab-tor"))
	if err != nil {
		t.Fatal(err)
	}
	b.lab, err = lab.New(context.Background(), lab.Config{
		Arch: vm.X8664, Target: filepath.Join(repository, "build", "target", vm.X8664),
		Plasmd: filepath.Join(repository, "build", "bin", "plasmd"), Work: work, Version: labVersion, Time: labTime, Tor: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	b.publish(b.release(1), "")
	b.serve()
	b.medium(lab.ImageOptions{Mode: "private", Policy: "[tor]\nallow = true\nbridges = [\"192.0.2.1:1\"]\n"})
	ctx, cancel := context.WithTimeout(t.Context(), 2*bootWithin)
	defer cancel()
	machine, err := b.lab.Boot(ctx, lab.BootOptions{Image: b.image, Run: b.run})
	if err != nil {
		t.Fatal(err)
	}
	defer machine.Quit(ctx)
	// It is only now that Tor has a way out, and asks the bridge.
	_, err = machine.WaitConsole(ctx, func(line string) bool { return strings.Contains(line, "Tor: 5% Connecting to a relay") })
	console := strings.Join(machine.ConsoleTail(1000), "\n")
	if err != nil {
		t.Fatalf("%v:\n%s", err, calm(console))
	}
	for _, want := range []string{"This boot asks everything through Tor, and nothing in any other way.", "Network time is not asked", "eth0: 10.0.2.15/24 (dhcp), gateway 10.0.2.2"} {
		b.shows(console, want)
	}
	log, err := os.ReadFile(b.provider.Log)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(log), "msg=serving") || strings.Contains(string(log), "msg=request") {
		t.Errorf("the provider was asked:\n%s", log)
	}
}
