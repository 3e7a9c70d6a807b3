package vm_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/diskformat"
	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/system"
	"github.com/phasebased/phase/internal/vm"
)

// TestFormats starts one medium as a disk of each hypervisor's format: the seed
// finds its policy and its cache on it, and goes on to the network.
func TestFormats(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.medium(lab.ImageOptions{})
	raw, size := b.raw()
	for _, disk := range []vm.Disk{
		{Format: vm.FormatQCOW2, Bus: vm.BusVirtio},
		{Format: vm.FormatVMDK, Bus: vm.BusNVMe},
		{Format: vm.FormatVHD, Bus: vm.BusVirtio},
		{Format: vm.FormatVHDX, Bus: vm.BusSCSI},
	} {
		t.Run(disk.Format, func(t *testing.T) {
			b := b.in(t)
			disk.Path = filepath.Join(b.run, "disk")
			c := diskformat.Config{Format: formatOf(disk.Format), Out: disk.Path, Time: labTime}
			if err := diskformat.Write(t.Context(), raw, size, c); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), bootWithin)
			defer cancel()
			machine := b.startFrom(ctx, disk, nil)
			_, err := machine.WaitConsole(ctx, func(line string) bool { return strings.HasSuffix(line, "] Network") })
			console := strings.Join(machine.ConsoleTail(1000), "\n")
			machine.Quit(ctx)
			if err != nil {
				t.Fatalf("%v; the console shows:\n%s", err, console)
			}
			if strings.Contains(console, "going on without") {
				t.Errorf("the seed misses a part of its medium:\n%s", calm(console))
			}
		})
	}
}

// formatOf is our name of one of QEMU's formats.
func formatOf(format string) string {
	if format == vm.FormatVHD {
		return diskformat.VHD
	}
	return format
}

// TestDisc starts a medium from a CD drive and walks to a receipt: the seed finds
// its policy and the nodes where its search begins on the disc, says that it keeps
// nothing, and starts the verified system.
func TestDisc(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(b.release(1), "")
	b.serve()
	// GRUB, unlike the firmware, reads the disc's own directory.
	b.medium(lab.ImageOptions{Chain: system.ChainStock})
	raw, size := b.raw()
	disc := vm.Disk{Path: filepath.Join(b.run, "disc.iso"), CDROM: true, Bus: vm.BusSCSI}
	err := diskformat.Produce(disc.Path, false, func(f *os.File) error {
		n, err := image.ISO{Label: "PHASE_BOOT", Name: "test", Time: labTime}.Write(f, raw, size)
		if err != nil {
			return err
		}
		return f.Truncate(n)
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), bootWithin)
	defer cancel()
	machine := b.startFrom(ctx, disc, []vm.Net{{Kind: vm.NetUser}})
	outcome, err := lab.Follow(ctx, machine, b.last)
	console := b.lastWords(ctx, machine, outcome)
	machine.Quit(ctx)
	if err != nil {
		t.Fatalf("%v; the console shows:\n%s", err, console)
	}
	b.verified(outcome, console)
	if want := "This medium is a disc: it keeps no downloads."; !strings.Contains(console, want) {
		t.Errorf("the console does not show %q:\n%s", want, calm(console))
	}
	if strings.Contains(console, "going on without") {
		t.Errorf("the seed misses a part of its medium:\n%s", calm(console))
	}
}

// raw opens the medium.
func (b *bench) raw() (*os.File, int64) {
	b.Helper()
	f, err := os.Open(b.image)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		b.Fatal(err)
	}
	return f, info.Size()
}

// in is the bench in a test below its own, with a folder of its own.
func (b *bench) in(t *testing.T) *bench {
	below := *b
	below.T, below.run = t, t.TempDir()
	return &below
}

// startFrom powers a machine on that has this disk.
func (b *bench) startFrom(ctx context.Context, disk vm.Disk, nets []vm.Net) *vm.Machine {
	b.Helper()
	machine, err := vm.Start(ctx, vm.Config{
		Arch: b.lab.Arch(), Disks: []vm.Disk{disk}, Nets: nets, Report: true, ProbeCache: filepath.Join(repository, "build", "lab"),
		Dir: filepath.Join(b.run, "machine"), ConsoleLog: filepath.Join(b.run, "console.log"),
	})
	if err != nil {
		b.Fatal(err)
	}
	return machine
}
