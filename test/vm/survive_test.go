package vm_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/vm"
)

// TestWalkThatEnds opens the shell on the console, looks around in it, and lets the
// program that boots be killed, as the kernel does when memory is short, and crash,
// as a defect would make it. Each time PID 1 says so and starts it again, with the
// network up, the cache mounted and drivers loaded. Before the second end a person
// has chosen Private mode: what is started then is private as well, and boots.
func TestWalkThatEnds(t *testing.T) {
	b := consoleBench(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*bootWithin)
	defer cancel()
	b.publish(b.release(1), "")
	b.medium(lab.ImageOptions{}) // before there is a provider that it could name
	b.serve()
	stick := b.stick(64 << 20)
	m := b.on(ctx, "machine", lab.BootOptions{Direct: "panic=30", Extra: []string{
		"-device", "qemu-xhci", "-drive", "if=none,id=stick,format=raw,file=" + stick, "-device", "usb-storage,removable=on,drive=stick",
	}})
	if m.outcome.Failure == nil {
		t.Fatalf("the machine has found something:\n%s", calm(m.console))
	}
	b.types(ctx, m, "d", []answer{{"Where", "1"}})
	b.await(ctx, m, "It can be unplugged.")
	b.menu(ctx, m)
	b.saved(stick)
	b.types(ctx, m, "l", []answer{{"Which", "2"}, {"o older", ""}})
	b.await(ctx, m, "Which")
	b.sends(m, "\x1b")
	b.menu(ctx, m)
	b.types(ctx, m, "s", []answer{{"seed:/", "tty; cat /proc/1/oom_score_adj; echo run''ning; sleep 1000"}})
	b.await(ctx, m, "/dev/pts/")
	b.await(ctx, m, "-1000")
	b.await(ctx, m, "running") // before, the shell edits its line, and takes what is typed as a part of it
	b.sends(m, "\x03")         // reaches what runs in the shell, and nothing else
	b.await(ctx, m, "^C")
	b.types(ctx, m, "", []answer{{"seed:/", "exit"}})
	b.await(ctx, m, "The shell has ended")
	b.menu(ctx, m)
	b.ends(ctx, m, "KILL", "has ended: killed (SIGKILL)")
	b.types(ctx, m, "m", []answer{{"Mode", "3"}, {"Type yes to go on", "yes"}})
	b.await(ctx, m, "Private Mode")
	b.follow(ctx, m)
	b.ends(ctx, m, "SEGV", "SIGSEGV: segmentation violation")
	if !strings.Contains(m.console[strings.LastIndex(m.console, "It is started again in"):], " - Private Mode") {
		t.Errorf("what was started again is not private:\n%s", calm(m.console))
	}
	b.types(ctx, m, "d", []answer{{"Where", "1"}, {"Type yes to go on", "yes"}})
	b.await(ctx, m, "It can be unplugged.")
	b.menu(ctx, m)
	if n := len(strings.Fields(b.tool("mdir", "-b", "-i", stick, "::/"))); n != 2 {
		t.Errorf("%d files are on the stick", n)
	}
	b.types(ctx, m, "u", []answer{{"URL, such as", b.ports.Base()}})
	b.last = lab.ReceiptShown
	b.follow(ctx, m)
	b.verified(m.outcome, m.console)
	if strings.Contains(calm(m.console), "going on without") {
		t.Errorf("something was not there the next time:\n%s", calm(m.console))
	}
}

// ends lets the program that boots be killed by a signal, waits until it is started
// again, and follows it to where it was before.
func (b *bench) ends(ctx context.Context, m *booted, signal, told string) {
	b.Helper()
	b.types(ctx, m, "s", []answer{{"seed:/", "kill -" + signal + " $(pidof phase-init)"}})
	b.await(ctx, m, told)
	b.await(ctx, m, "It is started again in")
	b.follow(ctx, m)
	if m.outcome.Failure == nil || m.outcome.Failure.Stage != "discovery" {
		b.Fatalf("what was started again came to %+v:\n%s", m.outcome.Failure, calm(m.console))
	}
}

// menu waits until keys are taken again.
func (b *bench) menu(ctx context.Context, m *booted) {
	b.Helper()
	b.await(ctx, m, "Keys: r try again")
}

// await waits for a text on the console.
func (b *bench) await(ctx context.Context, m *booted, text string) {
	b.Helper()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := m.await(ctx, text); err != nil {
		b.Fatalf("the console does not show %q: %v\n%s", text, err, strings.Join(m.machine.ConsoleTail(60), "\n"))
	}
}

// stick makes an image of a stick without partitions, formatted as sticks are.
func (b *bench) stick(size int64) string {
	b.Helper()
	path := filepath.Join(b.run, "stick.img")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		b.Fatal(err)
	}
	if _, err := exec.LookPath(sbin("mkfs.fat")); err != nil {
		skip(b.T, "mkfs.fat is missing: install dosfstools")
	}
	b.tool("mkfs.fat", "-F", "32", "-n", "NOTES", path)
	return path
}

// saved checks what was written to the stick.
func (b *bench) saved(stick string) {
	b.Helper()
	listing := b.tool("mdir", "-b", "-i", stick, "::/")
	name := strings.TrimPrefix(strings.TrimSpace(listing), "::/")
	if !strings.HasPrefix(name, "phase-diagnostics-") || !strings.HasSuffix(name, ".tar.gz") {
		b.Fatalf("on the stick is %q", listing)
	}
	packed := b.tool("mtype", "-i", stick, "::/"+name)
	zip, err := gzip.NewReader(strings.NewReader(packed))
	if err != nil {
		b.Fatal(err)
	}
	files := map[string]string{}
	for archive := tar.NewReader(zip); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			b.Fatal(err)
		}
		var content bytes.Buffer
		if _, err := io.Copy(&content, io.LimitReader(archive, 8<<20)); err != nil {
			b.Fatal(err)
		}
		_, short, _ := strings.Cut(h.Name, "/")
		files[short] = content.String()
	}
	for file, want := range map[string]string{
		"README.txt": "The boot stopped", "kernel.log": "phase: ", "configuration.json": `"Channel": "stable"`, "network.json": "10.0.2.15",
		"cmdline.txt": "console=ttyS0", "meminfo.txt": "MemTotal", "build.json": labVersion,
	} {
		if !strings.Contains(files[file], want) {
			b.Errorf("%s does not hold %q:\n%.2000s", file, want, files[file])
		}
	}
}

// TestNoConsole boots with no console at all: nothing is shown to anybody, and the
// report port tells that all goes its way.
func TestNoConsole(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, cancel := context.WithTimeout(t.Context(), bootWithin)
	defer cancel()
	b.publish(b.release(1), "")
	b.serve()
	b.medium(lab.ImageOptions{})
	machine, err := vm.Start(ctx, vm.Config{
		Kernel: b.lab.Node.Kernel.Path, Initrd: b.lab.Seed, Append: "console= no_timer_check quiet",
		Disks: []vm.Disk{{Path: b.image}}, Nets: []vm.Net{{}}, Report: true, Dir: filepath.Join(b.run, "machine"),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer machine.Quit(context.WithoutCancel(ctx))
	outcome, err := lab.Follow(ctx, machine, b.last)
	if err != nil {
		t.Fatalf("%v; events %q", err, outcome.Events)
	}
	b.verified(outcome, strings.Join(machine.ConsoleTail(1000), "\n"))
	if shown := strings.Join(machine.ConsoleTail(1000), "\n"); strings.Contains(shown, "Internet Mode") {
		t.Errorf("there was a console after all:\n%s", shown)
	}
}

// newConsoleLab builds media for real machines, whose kernel knows screens and
// keyboards, with a shell.
var newConsoleLab = sync.OnceValues(func() (*lab.Lab, error) {
	work, err := filepath.Abs(filepath.Join(repository, "build", "lab-console"))
	if err != nil {
		return nil, err
	}
	return lab.New(context.Background(), lab.Config{
		Arch: vm.X8664, Target: filepath.Join(repository, "build", "target", vm.X8664),
		Plasmd: filepath.Join(repository, "build", "bin", "plasmd"), Work: work, Version: labVersion, Time: labTime,
		Shell: true, Kernel: "linux-image-amd64",
	})
})

// consoleBench is a bench whose media have a shell.
func consoleBench(t *testing.T) *bench {
	b := setup(t)
	l, err := newConsoleLab()
	if err != nil {
		t.Fatal(err)
	}
	b.lab = l
	return b
}
