package deb_test

import (
	"context"
	"crypto/ed25519"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/examples"
	"github.com/phasebased/phase/internal/nettest"
	"github.com/phasebased/phase/internal/node"
	"github.com/phasebased/phase/internal/strictjson"
	"github.com/phasebased/phase/internal/system"
	"github.com/phasebased/phase/internal/vm"
	"github.com/phasebased/phase/internal/wasm"
	"github.com/phasebased/phase/receipt"
)

// machineWithin bounds both starts of the machine. Emulation on a busy computer is
// slow; this takes a fifth of it.
const machineWithin = 8 * time.Minute

// spin is a module that ends never: one loop.
var spin = []byte("\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x05\x03\x01\x00\x01" +
	"\x07\x13\x02\x06memory\x02\x00\x06_start\x00\x00\x0a\x09\x01\x07\x00\x03\x40\x0c\x00\x0b\x0b")

// TestMachineWithThePackage installs the package on a machine's disk and starts it: a
// virtual one, with Debian's kernel and systemd as PID 1. testdata/machine.sh runs jobs
// there, kills the node during one, restarts the machine and upgrades the package. Then
// the disk is read: one identity has signed for every job, in one chain.
func TestMachineWithThePackage(t *testing.T) {
	needs(t, "debootstrap", "dpkg-deb", "unshare", "mke2fs", "debugfs")
	if runtime.GOARCH != "amd64" {
		t.Skip("the machine is an x86_64 one")
	}
	if _, err := vm.FindQEMU(vm.X8664); err != nil {
		nettest.Lacking(t, "PHASE_REQUIRE_TOOLS", err.Error())
	}
	// Not the folder of test/vm, which may be at work at the same time.
	work, err := filepath.Abs(filepath.Join(repository, "build", "debian-kernel"))
	check(t, err)
	kernel, err := system.PrepareKernel(t.Context(), system.Sources{Arch: vm.X8664, Flavour: system.FlavourCloud, Dir: work})
	check(t, err)
	root, dir := debian(t), t.TempDir()
	at := filepath.Join(dir, "packages")
	packages(t, at, "phase")
	copyTo(t, "testdata/machine.sh", filepath.Join(at, "life.sh"))
	write(t, filepath.Join(at, "hello.wasm"), examples.Hello)
	write(t, filepath.Join(at, "spin.wasm"), spin)
	place(t, filepath.Join(dir, "upper", "etc", "systemd", "system"))
	disk := filepath.Join(dir, "disk.img")
	command(t, "unshare", "--mount", "--propagation", "private", "sh", absolute(t, "testdata/disk.sh"), root, dir, disk)

	console := start(t, kernel, work, disk, dir)
	for _, want := range []string{"machine: killed and accounted for", "machine: the same after the reboot", "machine: upgraded to 0.2.0", "machine: all is well"} {
		if !strings.Contains(console, want) {
			t.Errorf("the machine did not say %q", want)
		}
	}
	if strings.Contains(console, "FAIL") || t.Failed() {
		t.Fatalf("the console shows:\n%s", console)
	}
	receipts(t, disk, dir)
}

// start runs the machine to its end and gives what its console showed.
func start(t *testing.T, kernel system.Kernel, work, disk, dir string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), machineWithin)
	defer cancel()
	// An NVMe disk and ext4 are built into that kernel: it needs no initramfs.
	m, err := vm.Start(ctx, vm.Config{
		Kernel: kernel.Image, Append: "console=ttyS0,115200 quiet no_timer_check panic=-1 root=/dev/nvme0n1 rw systemd.show_status=false",
		Disks: []vm.Disk{{Path: disk, Bus: vm.BusNVMe}}, Dir: filepath.Join(dir, "machine"), ProbeCache: work, Reboot: true,
	})
	check(t, err)
	exit := m.Wait()
	t.Logf("the machine ran for %.0f s", time.Since(m.PowerOn()).Seconds())
	console := strings.Join(m.ConsoleTail(2000), "\n")
	if exit.Err != nil {
		t.Errorf("the machine ended with %v; it showed:\n%s", exit.Err, console)
	}
	return console
}

// receipts reads the node's folder off the disk: an unbroken log of receipts, all of
// one key, with the walls of a machine of one's own.
func receipts(t *testing.T, disk, dir string) {
	t.Helper()
	for _, name := range []string{"receipts", "node.key"} {
		command(t, "debugfs", "-R", "rdump /var/lib/plasm/"+name+" "+dir, disk)
	}
	key, err := node.LoadOrCreateKey(filepath.Join(dir, "node.key"))
	check(t, err)
	if _, err := node.CheckReceiptLog(filepath.Join(dir, "receipts")); err != nil {
		t.Error(err)
	}
	log, err := os.ReadFile(filepath.Join(dir, "receipts", "receipts.log"))
	check(t, err)
	var states []string
	for line := range strings.Lines(string(log)) {
		var entry struct {
			Receipt strictjson.Raw `json:"receipt"`
		}
		check(t, strictjson.Unmarshal([]byte(strings.TrimSuffix(line, "\n")), &entry, strictjson.Limits{Bytes: 1 << 20, Depth: 16}))
		s, err := receipt.Verify(entry.Receipt, key.Public().(ed25519.PublicKey))
		check(t, err)
		states = append(states, string(s.Result.EndState))
		if s.Result.EndState == "exited" {
			missing(t, s.Observation.Walls)
		}
	}
	if want := []string{"exited", "infra_error", "exited", "exited"}; !slices.Equal(states, want) {
		t.Errorf("the log has receipts for %q, want %q", states, want)
	}
}

// missing names the walls that Linux 6.1 with systemd has and a job did not.
func missing(t *testing.T, walls []string) {
	t.Helper()
	for _, wall := range wasm.AllWalls {
		later := wall == "landlock-tcp" || wall == "landlock-scopes" // 6.7, 6.12
		if !later && !slices.Contains(walls, wall) {
			t.Errorf("the wall %s is missing: %v", wall, walls)
		}
	}
}

// needs skips a test where a program or root is missing.
func needs(t *testing.T, tools ...string) {
	t.Helper()
	nettest.Root(t, "to make a Debian system and start it")
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			nettest.Lacking(t, "PHASE_REQUIRE_TOOLS", err.Error())
		}
	}
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	check(t, err)
	return path
}

var check = nettest.Check
