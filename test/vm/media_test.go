package vm_test

import (
	"context"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/system"
	"github.com/phasebased/phase/internal/vm"
)

// generic are labs for real machines of both architectures.
var generic = sync.OnceValues(func() (map[string]*lab.Lab, error) {
	work, err := filepath.Abs(filepath.Join(repository, "build", "lab"))
	if err != nil {
		return nil, err
	}
	labs := map[string]*lab.Lab{}
	for _, arch := range []string{vm.X8664, vm.ARM64} {
		labs[arch], err = lab.New(context.Background(), lab.Config{
			Arch: arch, Target: filepath.Join(repository, "build", "target", arch), Flavour: system.FlavourGeneric,
			Plasmd: filepath.Join(repository, "build", "bin", "plasmd"), Work: work, Version: labVersion, Time: labTime,
		})
		if err != nil {
			return nil, err
		}
	}
	return labs, nil
})

// TestMediaForAllMachines writes one image for real machines of both architectures
// and boots it: an x86_64 machine that has it as a USB stick, with a network card of
// Intel's, and an arm64 machine come to a receipt; x86_64 machines that have it on
// other buses find their medium and its cache, and go on to the network.
func TestMediaForAllMachines(t *testing.T) {
	x86, arm := setupArch(t, vm.X8664), setupArch(t, vm.ARM64)
	labs, err := generic()
	if err != nil {
		t.Fatal(err)
	}
	x86.lab, arm.lab = labs[vm.X8664], labs[vm.ARM64]
	arm.run, arm.ports = x86.run, x86.ports // one folder, one provider
	for _, b := range []*bench{x86, arm} {
		b.publish(b.release(1), "")
	}
	x86.serve()
	x86.medium(lab.ImageOptions{With: []*lab.Lab{arm.lab}, Chain: system.ChainStock}) // as it is shipped
	before := digest(t, x86.image)
	arm.image = x86.image

	t.Run("x86_64-usb", func(t *testing.T) {
		b := x86.in(t)
		outcome, console := b.boot(lab.BootOptions{Bus: vm.BusUSB, Snapshot: true, Nets: []vm.Net{{Kind: vm.NetUser, Model: "e1000e"}}})
		b.verified(outcome, console)
	})
	t.Run("arm64", func(t *testing.T) {
		x86.provider.Stop() // a provider announces one architecture; this one has the same name
		b := arm.in(t)
		b.serveFrom(x86.run)
		outcome, console := b.boot(lab.BootOptions{Bus: vm.BusUSB, Snapshot: true})
		b.verified(outcome, console)
		b.bootedARM64(outcome, console)
	})
	for _, bus := range []string{vm.BusNVMe, vm.BusSATA, vm.BusSCSI} {
		t.Run("x86_64-"+bus, func(t *testing.T) { x86.in(t).findsItsMedium(bus) })
	}
	if string(before) != string(digest(t, x86.image)) {
		t.Error("the machines did not boot the same image")
	}
}

// serveFrom starts a provider for what was published in another test's folder.
func (b *bench) serveFrom(run string) {
	b.Helper()
	var err error
	if b.provider, err = b.lab.Serve(b.Context(), filepath.Join(run, "published"), b.ports, b.run); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(b.provider.Stop)
}

// findsItsMedium boots as far as the network, and asserts that nothing of the medium
// was missed.
func (b *bench) findsItsMedium(bus string) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), bootWithin)
	defer cancel()
	machine, err := b.lab.Boot(ctx, lab.BootOptions{Image: b.image, Run: b.run, Bus: bus, Snapshot: true, NoNet: true})
	if err != nil {
		b.Fatal(err)
	}
	_, err = machine.WaitConsole(ctx, func(line string) bool { return strings.HasSuffix(line, "] Network") })
	console := strings.Join(machine.ConsoleTail(1000), "\n")
	machine.Quit(ctx)
	if err != nil {
		b.Fatalf("%v; the console shows:\n%s", err, console)
	}
	if strings.Contains(console, "going on without") {
		b.Errorf("the seed misses a part of its medium:\n%s", calm(console))
	}
}
