package vm_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/phasebased/phase/internal/debpkg"
	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/nettest"
	"github.com/phasebased/phase/receipt"
)

// The systems of these tests are not ours: docs/foreign.md says what is asked of
// such a system, and what it finds.

// TestInstaller publishes a distribution's kernel and initramfs as they are, in
// which there is nothing of ours: Debian's installer for booting over the network.
// It comes up, shows its first question, and finds two files more than it expects.
func TestInstaller(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.release(1)
	r.Kernel, r.Initramfs, r.Rootfs = b.installer()
	// What the installer reads from the kernel's command line: no full-screen menus,
	// and a command to be run before its first question.
	r.Cmdline = `console=ttyS0,115200 no_timer_check panic=30 DEBIAN_FRONTEND=text preseed/early_command="ls -l /phase >/dev/console"`
	b.publish(r, "")
	b.serve()
	b.medium(lab.ImageOptions{})
	ctx, cancel := context.WithTimeout(t.Context(), 2*bootWithin)
	defer cancel()
	m := b.start(ctx, lab.BootOptions{})
	for _, want := range []string{"handover.json", "Choose the language to be used for the installation process"} {
		if err := m.await(ctx, want); err != nil {
			t.Fatalf("the installer does not show %q: %v\n%s", want, err, strings.Join(m.machine.ConsoleTail(200), "\n"))
		}
	}
	if console := strings.Join(m.machine.ConsoleTail(1000), "\n"); len(banner.FindAllString(console, -1)) != 1 {
		t.Errorf("not one kernel showed a banner:\n%s", console)
	}
}

// installer unpacks kernel and initramfs of Debian's network installer, which has
// no root file system.
func (b *bench) installer() (kernel, initramfs, rootfs string) {
	b.Helper()
	const folder = "usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64/"
	cache := debpkg.Cache{Dir: filepath.Join(repository, "build", "test-packages")}
	pkg, err := cache.Get(b.Context(), "debian-installer-12-netboot-amd64", "amd64")
	if err != nil {
		skip(b.T, err.Error())
	}
	err = pkg.Files(b.Context(), func(name string, hdr *tar.Header, r io.Reader) error {
		if name != folder+"linux" && name != folder+"initrd.gz" {
			return nil
		}
		out, err := os.Create(filepath.Join(b.run, path.Base(name)))
		if err != nil {
			return err
		}
		_, err = io.Copy(out, r)
		return errors.Join(err, out.Close())
	})
	if err != nil {
		b.Fatal(err)
	}
	return filepath.Join(b.run, "linux"), filepath.Join(b.run, "initrd.gz"), ""
}

// TestDebianWithSystemd publishes a Debian made by debootstrap, whose init is
// systemd, with the kernel and the initramfs of the node system. systemd is PID 1
// there without a word on the command line, starts plasmd.service, and the hello
// job's receipt comes from within.
func TestDebianWithSystemd(t *testing.T) {
	b := setup(t)
	needE2fsprogs(t)
	r := b.release(1)
	r.Rootfs, r.Verity = b.debian(), nil
	r.Cmdline = loudKernel + " systemd.show_status=true"
	b.publish(r, "")
	b.serve()
	b.medium(lab.ImageOptions{})
	outcome, console := b.bootForeign(lab.BootOptions{Memory: 1536})
	b.verified(outcome, console)
	b.shows(console, "The system brings its own init: /sbin/init takes over.")
	b.shows(console, "Welcome to Debian GNU/Linux")
	wallsStand(t, outcome.Receipt.Statement)

	// Who it is was kept on the medium, as for every other node.
	if said := b.cacheSays("stat /plasm/node.key"); !strings.Contains(said, "Mode:  0600") {
		t.Errorf("the node's key on the medium: %s", said)
	}
}

// bootForeign boots a system that shows nothing of ours at the end.
func (b *bench) bootForeign(o lab.BootOptions) (*lab.Outcome, string) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 2*bootWithin)
	defer cancel()
	m := b.start(ctx, o)
	outcome, err := lab.Follow(ctx, m.machine, b.last)
	console := strings.Join(m.machine.ConsoleTail(1000), "\n")
	m.machine.Quit(ctx)
	if err != nil {
		b.Fatalf("%v; the console shows:\n%s", err, console)
	}
	b.Logf("%s: %.1f s", outcome.Accel, outcome.Elapsed.Seconds())
	return outcome, console
}

// wallsStand wants the walls around a job that plasmd has as the only program of
// a system.
func wallsStand(t *testing.T, s receipt.Statement) {
	t.Helper()
	for _, wall := range []string{"unprivileged-user", "empty-root", "network-namespace", "pid-namespace", "ipc-namespace", "mount-namespace", "no-new-privs", "rlimits"} {
		if !slices.Contains(s.Observation.Walls, wall) {
			t.Errorf("under systemd the wall %s is missing: %v", wall, s.Observation.Walls)
		}
	}
}

// debian is a root file system with systemd and plasmd, as a publisher makes it.
func (b *bench) debian() string {
	b.Helper()
	nettest.Root(b.T, "to make a Debian system")
	first, rest := onPage(b.T)
	root := b.debootstrap(strings.Fields(first))
	b.configure(root)
	return b.follows(rest, root)
}

// onPage is the page's recipe for a Debian: its first line, which takes long, and
// the others.
func onPage(t *testing.T) (first, rest string) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(repository, "docs", "foreign.md"))
	if err != nil {
		t.Fatal(err)
	}
	const start = "```sh\ndebootstrap "
	_, recipe, found := strings.Cut(string(page), start)
	recipe, _, ends := strings.Cut(recipe, "```")
	first, rest, more := strings.Cut(recipe, "\n")
	if !found || !ends || !more {
		t.Fatalf("docs/foreign.md has no recipe that begins with %q", start)
	}
	return first, rest
}

// follows does what the page says, where its files are, and returns the root file
// system that comes of it.
func (b *bench) follows(recipe, root string) string {
	b.Helper()
	dir := b.TempDir()
	for name, target := range map[string]string{"debian": root, "build": filepath.Join(repository, "build"), "packaging": filepath.Join(repository, "packaging")} {
		target, err := filepath.Abs(target)
		if err == nil {
			err = os.Symlink(target, filepath.Join(dir, name))
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	// mksquashfs would pack the link itself.
	recipe = strings.ReplaceAll(recipe, "mksquashfs debian ", "mksquashfs debian/ ")
	b.command("sh", "-ec", "cd "+dir+"\n"+recipe)
	return filepath.Join(dir, "debian.squashfs")
}

// debootstrap makes a Debian system of one's own. It is given the options of the page,
// and in place of its suite and folder those of this machine. What debootstrap itself
// does is done once for all tests.
func (b *bench) debootstrap(args []string) string {
	b.Helper()
	made := nettest.Debian(b.T, filepath.Join(repository, "build"), strings.Join(args[:len(args)-2], " "))
	root := filepath.Join(b.TempDir(), "debian")
	b.command("cp", "-a", made, root)
	return root
}

// configure gives the node in a system its first job.
func (b *bench) configure(root string) {
	b.Helper()
	hello, err := lab.HelloJob()
	if err != nil {
		b.Fatal(err)
	}
	config, err := json.Marshal(map[string]any{"boot_jobs": []string{"/usr/share/phase/jobs/hello.json"}})
	if err != nil {
		b.Fatal(err)
	}
	for name, data := range map[string][]byte{"usr/share/phase/jobs/hello.json": hello, "etc/plasm/config.json": config} {
		file := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(file), 0o755)
		if err == nil {
			err = os.WriteFile(file, data, 0o644)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// command runs a program that publishers use.
func (b *bench) command(name string, args ...string) {
	b.Helper()
	tool, err := exec.LookPath(sbin(name))
	if err != nil {
		skip(b.T, err.Error())
	}
	cmd := exec.CommandContext(b.Context(), tool, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	// Its children hold mounts below its folder: they end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		b.Fatalf("%s %v: %v\n%s", name, args, err, tailOf(out.String()))
	}
}

func tailOf(text string) string { return text[max(0, len(text)-2000):] }
