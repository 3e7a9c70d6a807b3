package stick

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/disks"
	"github.com/phasebased/phase/internal/nettest"
)

// loop makes a loop device of a sparse file.
func loop(t *testing.T, file string, options ...string) string {
	t.Helper()
	nettest.Root(t, "for a loop device")
	args := append([]string{"--find", "--show"}, options...)
	out, err := exec.Command(nettest.Tool(t, "losetup"), append(args, file)...).CombinedOutput()
	if err != nil {
		nettest.Lacking(t, "PHASE_REQUIRE_ROOT_TESTS", fmt.Sprintf("no loop device: %s", bytes.TrimSpace(out)))
	}
	path := strings.TrimSpace(string(out))
	t.Cleanup(func() { tool(t, "losetup", "--detach", path) })
	return path
}

func sparse(t *testing.T, size int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "stick")
	f, err := os.Create(path)
	if err == nil {
		err = errors.Join(f.Truncate(size), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(nettest.Tool(t, name), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
	return string(out)
}

func options(image, device string) Options {
	return Options{Image: image, Device: device, Allow: Allow{Fixed: true}}
}

func write(t *testing.T, o Options) (Report, error) {
	t.Helper()
	p, err := Prepare(t.Context(), o)
	if err != nil {
		return Report{}, err
	}
	defer p.Close()
	return p.Write(t.Context(), nil)
}

// TestLoopDevice: a whole write, judged by others: sgdisk finds nothing wrong, the
// kernel finds the partitions, and read as a [Source] the disk is the image.
func TestLoopDevice(t *testing.T) {
	nettest.Require(t, "sgdisk", "sha256sum")
	img := testImage(t, 40*mib, "new")
	device := loop(t, sparse(t, 100*mib+512*7), "--partscan")
	if _, err := write(t, options(testImage(t, 24*mib, "old"), device)); err != nil {
		t.Fatal(err)
	}
	report, err := write(t, options(img, device))
	if err != nil {
		t.Fatal(err)
	}
	if out := tool(t, "sgdisk", "-v", device); !strings.Contains(out, "No problems found") {
		t.Error(out)
	}
	if sum := tool(t, "sha256sum", img); !strings.HasPrefix(sum, report.Image.Hex()) {
		t.Errorf("%s, reported %s", sum, report.Image)
	}
	s, err := OpenSource(t.Context(), device)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got, err := s.Digest(t.Context(), 0, s.Size, nil); err != nil || got != report.Image || !s.Device {
		t.Errorf("the disk as an image: %s, %v", got, err)
	}
	tool(t, "partx", "--update", device) // some kernels look for no partitions themselves
	d, _, err := disks.Find(t.Context(), device)
	if err != nil || len(d.Partitions) != 3 || d.Partitions[0].Offset != mib || d.Partitions[0].FileSystem != "vfat" {
		t.Errorf("the kernel sees %+v, %v", d.Partitions, err)
	}
	_, err = Prepare(t.Context(), options(img, device+"p1"))
	expect(t, err, IsPartition, "p1 is a partition of "+device)
}

// TestLoopRefusals: what real devices are refused for.
func TestLoopRefusals(t *testing.T) {
	img := testImage(t, 24*mib, "new")
	device := loop(t, sparse(t, 64*mib))
	_, err := Prepare(t.Context(), Options{Image: img, Device: device})
	expect(t, err, IsFixed, device+" is no stick: 67.1 MB loop")

	_, err = Prepare(t.Context(), options(img, loop(t, sparse(t, 24*mib-512))))
	expect(t, err, TooSmall, "it has 25.2 MB (25165312 bytes), and the image needs 25.2 MB (25165824 bytes)")

	_, err = Prepare(t.Context(), options(img, loop(t, sparse(t, 64*mib), "--read-only")))
	expect(t, err, IsReadOnly, "is read-only")

	_, err = Prepare(t.Context(), options(img, loop(t, sparse(t, 64*mib), "--sector-size", "4096")))
	expect(t, err, SectorSize, "has sectors of 4096 bytes")

	f, err := os.OpenFile(device, os.O_RDONLY|unix.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Prepare(t.Context(), options(img, device))
	expect(t, err, IsBusy, "another program has it open")
	f.Close()

	upper := loop(t, device)
	_, err = Prepare(t.Context(), options(img, device))
	expect(t, err, InUse, "the loop device "+filepath.Base(upper))
}

// TestLoopMounted: refused, unless unmounting is allowed; never if the image is there.
func TestLoopMounted(t *testing.T) {
	img := testImage(t, 24*mib, "new")
	device := loop(t, sparse(t, 128*mib))
	tool(t, "mke2fs", "-q", device)
	at := t.TempDir()
	if err := unix.Mount(device, at, "ext4", 0, ""); err != nil {
		nettest.Lacking(t, "PHASE_REQUIRE_ROOT_TESTS", "cannot mount: "+err.Error())
	}
	defer func() { _ = unix.Unmount(at, unix.MNT_DETACH) }() // if the test did not
	_, err := Prepare(t.Context(), options(img, device))
	expect(t, err, IsMounted, "is mounted: "+filepath.Base(device)+" at "+at)

	inside := filepath.Join(at, "phase.img")
	tool(t, "cp", "--sparse=always", img, inside)
	o := options(inside, device)
	o.Allow.Unmount = true
	_, err = Prepare(t.Context(), o)
	expect(t, err, HoldsImage, "holds the image")

	o.Image = img
	busy, err := os.Open(inside)
	if err != nil {
		t.Fatal(err)
	}
	_, err = write(t, o)
	expect(t, err, IsMounted, "cannot be unmounted from "+at)
	busy.Close()
	if _, err := write(t, o); err != nil {
		t.Error(err)
	}
}

// TestSystemDisk: that of this machine, if it has one, is refused whatever is allowed.
func TestSystemDisk(t *testing.T) {
	all, err := disks.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(d disks.Disk) bool { return d.System() && d.Bus != disks.Virtual })
	if i < 0 {
		t.Skip("this machine's root is on no disk that it knows")
	}
	o := options(testImage(t, 24*mib, "new"), all[i].Path)
	o.Allow.Unmount = true
	_, err = Prepare(t.Context(), o)
	expect(t, err, IsSystem, "belongs to the running system")
}

// TestLoopFull: a medium that fails half way. The file behind it is on a file system
// without room for it.
func TestLoopFull(t *testing.T) {
	nettest.Root(t, "to mount")
	at := t.TempDir()
	if err := unix.Mount("tmpfs", at, "tmpfs", 0, "size=6m"); err != nil {
		nettest.Lacking(t, "PHASE_REQUIRE_ROOT_TESTS", "cannot mount: "+err.Error())
	}
	defer func() { _ = unix.Unmount(at, unix.MNT_DETACH) }()
	file := filepath.Join(at, "stick")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 64*mib); err != nil {
		t.Fatal(err)
	}
	device := loop(t, file)
	_, err := write(t, options(testImage(t, 24*mib, "new"), device))
	expect(t, err, DeviceError, "reports an error while writing at byte")
	unstartable(t, device)
}

// unstartable asks outside judges whether anything is on a disk: a table, or a file
// system where the image has some.
func unstartable(t *testing.T, device string) {
	t.Helper()
	if out := tool(t, "wipefs", "--no-act", device); out != "" {
		t.Errorf("wipefs finds\n%s", out)
	}
	for _, at := range []int{mib, 5 * mib, 7 * mib} {
		out, err := exec.Command(nettest.Tool(t, "blkid"), "--probe", "--offset", fmt.Sprint(at), device).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 2 || len(out) > 0 {
			t.Errorf("blkid finds at %d: %v %s", at, err, out)
		}
	}
	if out := tool(t, "sgdisk", "--print", device); strings.Contains(out, "phase-") {
		t.Error(out)
	}
}

const killed = "PHASE_TEST_WRITE"

// TestWriterProcess is what TestKilled kills.
func TestWriterProcess(t *testing.T) {
	text := os.Getenv(killed)
	if text == "" {
		t.Skip("runs for TestKilled only")
	}
	var o Options
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		t.Fatal(err)
	}
	p, err := Prepare(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Write(t.Context(), func(phase Phase, done, _ int64) {
		fmt.Println("at", phase, done)
		_, _ = os.Stdin.Read(make([]byte, 1)) // goes on when it is told to
	})
	fmt.Println("ended", err)
}

// TestKilled kills the writing process in all phases: nothing on the medium starts,
// and the next write makes a whole one of it.
func TestKilled(t *testing.T) {
	nettest.Require(t, "sgdisk", "wipefs", "blkid")
	img := testImage(t, 72*mib, "new")
	device := loop(t, sparse(t, 80*mib))
	if _, err := write(t, options(img, device)); err != nil {
		t.Fatal(err)
	}
	seen := map[Phase]int{}
	for steps := 1; ; steps += 12 {
		phase, ended := kill(t, options(img, device), steps)
		if ended {
			break
		}
		seen[phase]++
		if phase != Starting {
			unstartable(t, device)
		}
	}
	if seen[Wiping]+seen[Probing] < 2 || seen[Writing] == 0 && seen[Reading] == 0 {
		t.Errorf("killed in %v", seen)
	}
	if out := tool(t, "sgdisk", "-v", device); !strings.Contains(out, "No problems found") {
		t.Error(out)
	}
}

// kill lets a process write until it has told its progress so many times.
func kill(t *testing.T, o Options, steps int) (phase Phase, ended bool) {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestWriterProcess$", "-test.v")
	cmd.Env = append(os.Environ(), killed+"="+string(text))
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		line := lines.Text()
		if rest, ok := strings.CutPrefix(line, "ended "); ok {
			if rest != "<nil>" {
				t.Fatal(rest)
			}
			return "", true
		}
		rest, ok := strings.CutPrefix(line, "at ")
		if !ok {
			continue
		}
		phase = Phase(rest[:strings.LastIndex(rest, " ")])
		if steps--; steps == 0 {
			return phase, false
		}
		if _, err := in.Write([]byte{'\n'}); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("the writing process said nothing more")
	return "", false
}

// TestFile: a file stands for a stick, if that is asked for.
func TestFile(t *testing.T) {
	img := testImage(t, 24*mib, "new")
	o := Options{Image: img, Device: sparse(t, 40*mib), File: true}
	report, err := write(t, o)
	if err != nil || report.Medium != 40*mib {
		t.Fatal(err)
	}
	s, err := OpenSource(t.Context(), o.Device)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got, err := s.Digest(t.Context(), 0, s.Size, nil); err != nil || got != report.Image || s.Size != 24*mib {
		t.Errorf("%s of %d, %v", got, s.Size, err)
	}
	for _, tt := range []struct {
		o      Options
		reason Reason
		text   string
	}{
		{Options{Image: img, Device: o.Device}, NotDevice, "is a file, no disk"},
		{Options{Image: img, Device: img, File: true}, HoldsImage, "is the image itself"},
		{Options{Image: img, Device: t.TempDir()}, NotDevice, "is no disk"},
		{Options{Image: img, Device: "/dev/null"}, NotDevice, "is no disk"},
		{Options{Image: img, Device: "/dev/null", File: true}, NotDevice, "is no file"},
		{Options{Image: img, Device: "/dev/no-such-disk"}, NoDevice, "does not exist"},
		{Options{Image: img, Device: sparse(t, 24*mib-512), File: true}, TooSmall, "is too small"},
	} {
		_, err := Prepare(t.Context(), tt.o)
		expect(t, err, tt.reason, tt.text)
	}
	f, err := os.Open(o.Device)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	_, err = write(t, o)
	expect(t, err, IsBusy, "is busy")
}
