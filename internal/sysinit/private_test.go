package sysinit

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// fakeRoot is a folder with files of the kernel's.
func fakeRoot(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestKnobs(t *testing.T) {
	root := fakeRoot(t, map[string]string{
		"proc/sys/kernel/core_uses_pid": "1\n",
		"proc/sys/kernel/core_pattern":  "|/usr/share/apport %p\n",
		"proc/sys/fs/suid_dumpable":     "2\n",
		// kexec_crash_size is absent: a kernel without crash kernels
	})
	for _, k := range knobs() {
		if err := k.turn(root); err != nil {
			t.Error(err)
		}
	}
	for name, want := range map[string]string{
		"proc/sys/kernel/core_uses_pid": "0\n", "proc/sys/kernel/core_pattern": "\n", "proc/sys/fs/suid_dumpable": "0\n",
	} {
		if got, err := os.ReadFile(filepath.Join(root, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "sys/kernel/kexec_crash_size")); err == nil {
		t.Error("a setting was made that the kernel does not have")
	}
}

// TestKnobThatDoesNotTurn: a file that swallows what is written stands for a
// kernel that refuses in silence.
func TestKnobThatDoesNotTurn(t *testing.T) {
	root := fakeRoot(t, map[string]string{"proc/sys/fs/empty": ""})
	if err := os.Symlink("/dev/null", filepath.Join(root, "proc/sys/fs/suid_dumpable")); err != nil {
		t.Fatal(err)
	}
	err := knob{"core dumps", "proc/sys/fs/suid_dumpable", "0"}.turn(root)
	var refused *TraceError
	if !errors.As(err, &refused) || refused.What != "core dumps" || !strings.Contains(err.Error(), `suid_dumpable stays ""`) {
		t.Errorf("got %v", err)
	}
	if refused.Code() != "BOOT-030" || refused.Hint() == "" || errors.Unwrap(refused) == nil {
		t.Errorf("code %q, hint %q", refused.Code(), refused.Hint())
	}
}

func TestCrashKernel(t *testing.T) {
	const file = "sys/kernel/kexec_crash_loaded"
	for loaded, refused := range map[string]bool{"0\n": false, "1\n": true, "": true} {
		if err := noCrashKernel(fakeRoot(t, map[string]string{file: loaded})); (err != nil) != refused {
			t.Errorf("%q: %v", loaded, err)
		}
	}
	if err := noCrashKernel(t.TempDir()); err != nil {
		t.Errorf("a kernel without: %v", err)
	}
}

func TestLastWords(t *testing.T) {
	for text, want := range map[string]string{"(null)\n": "", "none\n": "", "efi_pstore\n": "efi_pstore", "erst\n": "erst"} {
		got, err := lastWords(fakeRoot(t, map[string]string{"sys/module/pstore/parameters/backend": text}))
		if got != want || err != nil {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
	if got, err := lastWords(t.TempDir()); got != "" || err != nil {
		t.Errorf("a kernel without: %q, %v", got, err)
	}
}

// TestPrivateEntryNamesNoBackend: the medium's entry and this package mean the
// same word.
func TestPrivateEntryNamesNoBackend(t *testing.T) {
	entry, err := os.ReadFile("../../media/entries/private.conf")
	if err != nil || !strings.Contains(string(entry), " pstore.backend="+NoBackend+"{") {
		t.Errorf("%v, %q", err, entry)
	}
}

func TestSwapsAndMounts(t *testing.T) {
	root := fakeRoot(t, map[string]string{
		"proc/swaps": "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/dev/zram0  partition\t1\t0\t100\n/a\\040b\\134c\\9 file 1 0 -2\n",
		"proc/self/mounts": "sysfs /sys sysfs rw 0 0\nefivarfs /sys/firmware/efi/efivars efivarfs rw 0 0\n" +
			"x efivarfs tmpfs rw 0 0\nefivarfs /mnt/two\\011 efivarfs ro 0 0\nrubbish\n",
	})
	got, err := swaps(root)
	if want := []string{`/a b\c\9`, "/dev/zram0"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("swaps %q, %v; want %q", got, err, want)
	}
	got, err = mountsOf(root, "efivarfs")
	if want := []string{"/mnt/two\t", "/sys/firmware/efi/efivars"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("mounts %q, %v; want %q", got, err, want)
	}
	if got, err := swaps(t.TempDir()); got != nil || err != nil {
		t.Errorf("a kernel without swap: %q, %v", got, err)
	}
	if got, err := swaps(fakeRoot(t, map[string]string{"proc/swaps": "Filename Type Size Used Priority\n"})); len(got) > 0 || err != nil {
		t.Errorf("no swap: %q, %v", got, err)
	}
}

func TestHardDisks(t *testing.T) {
	sys := fstest.MapFS{}
	for _, name := range []string{"sda", "sda1", "nvme0n1", "vda", "mmcblk0p1", "xvda", "loop0", "ram0", "zram0", "dm-0", "md127", "nbd0", "sr0", "fd0"} {
		sys["class/block/"+name+"/uevent"] = &fstest.MapFile{Data: []byte("MAJOR=8\nDEVNAME=" + name + "\n")}
	}
	sys["class/block/odd/uevent"] = &fstest.MapFile{Data: []byte("DEVNAME=../mem\n")}
	sys["class/block/none/uevent"] = &fstest.MapFile{}
	got, err := hardDisks(sys)
	if want := []string{"mmcblk0p1", "nvme0n1", "sda", "sda1", "vda", "xvda"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	if got, err := hardDisks(fstest.MapFS{}); got != nil || err != nil {
		t.Errorf("no disks: %q, %v", got, err)
	}
}
