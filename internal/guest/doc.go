// Package guest runs a test inside a small virtual machine, for tests that need
// what the host's kernel may lack: VLANs, netem, simulated Wi-Fi cards, nftables.
//
//	func TestVLAN(t *testing.T) {
//		if !guest.Run(t, guest.Config{Modules: []string{"8021q"}, Programs: []string{"dnsmasq"}}) {
//			return
//		}
//		// … root of a machine of its own, with those modules and programs
//	}
//
// On the host, Run boots a Debian kernel whose initramfs holds the running test
// binary, the modules, the programs with their libraries, and nothing else. The
// same binary is the guest's init: as process 1 it comes to the same Run, which
// mounts the early file systems, loads the modules, brings the loopback up and
// starts the binary once more, for exactly that test. There Run reports true.
// Its output streams to the log of the host's test as it comes; outcome, subtests
// and skips are repeated by the host's test, so that nobody has to know where a
// test ran. A test that the guest skips has not passed: that is a failure unless
// Config.AllowSkip. A kernel panic, a hang and a lost machine are failures with
// the console's last lines.
//
// A test that must not do its work twice on the way there has Run as its first
// line, and its package does nothing in TestMain or in variables that needs more
// than memory: process 1 passes both with no file system mounted.
//
// What a machine lacks for a guest (QEMU, apt, a program) is a failure under
// PHASE_REQUIRE_TOOLS=1, otherwise the test is skipped. A module that no kernel
// has is a failure always: that is the test's own mistake. Variables that begin
// with PHASE_ are the same in the guest, others are not handed on.
//
// Trust: kernel, modules and unpacked packages come from the distribution through
// apt, which checks them; programs and libraries are the host's own. The guest is
// this project's test code: what it prints is bounded by package vm, not judged.
package guest

import "time"

// Config says what a guest has. The zero value of a field is its default.
type Config struct {
	// Modules are kernel modules to load, in this order; what they need comes
	// along. A name may have parameters behind it, as on the kernel's command
	// line: "mac80211_hwsim radios=2".
	Modules []string
	// Kernel is the name of a kernel package, such as linux-image-amd64. Empty:
	// Debian's kernel for clouds if that has the modules, since it boots faster,
	// otherwise the generic one.
	Kernel string
	// Programs are programs to carry, by name or absolute path. They are looked up
	// in Packages, then on the host, and come with the libraries they name.
	Programs []string
	// Packages are Debian packages in which Programs, libraries and Files are
	// looked up. They are unpacked into a cache, never installed, and not carried
	// as a whole. A library that neither they nor the host have is looked for in
	// the packages that they depend on.
	Packages []string
	// Files are files and folders to carry, to the same path in the guest.
	// Relative ones, such as "testdata", belong to the package under test: the
	// guest's test runs in a folder of the same name as the host's. "name=source"
	// carries a file under another name:
	// "/lib/firmware/regulatory.db=/lib/firmware/regulatory.db-debian".
	Files []string
	// Append is added to the kernel's command line.
	Append string
	// Memory is the guest's RAM in MiB; 0 means 512.
	Memory int
	// CPUs is the number of processors; 0 leaves it to package vm.
	CPUs int
	// Timeout is how long the test may take in the guest; 0 means two minutes.
	// Booting has its own limit.
	Timeout time.Duration
	// Unless is asked on the host: the test runs there if it reports true, because
	// this kernel has what the guest's would be needed for. Nil: always the guest.
	Unless func() bool
	// AllowSkip makes a test that the guest skips a skipped one on the host.
	AllowSkip bool

	limits limits
}

// limits are how long a guest may take beside the test itself; the package's own
// tests of guests that hang shorten them.
type limits struct {
	boot time.Duration // from power on to the test's start, on a machine that is busy
	end  time.Duration // from the test's own timeout to the end of its process
}

func (c Config) withDefaults() Config {
	for field, value := range map[*time.Duration]time.Duration{
		&c.Timeout: 2 * time.Minute, &c.limits.boot: 3 * time.Minute, &c.limits.end: 30 * time.Second,
	} {
		if *field == 0 {
			*field = value
		}
	}
	if c.Memory == 0 {
		c.Memory = 512
	}
	return c
}
