package oneshot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/guid"
	"github.com/phasebased/phase/internal/pefile"
	"github.com/phasebased/phase/internal/pefile/pefiletest"
)

const testUUID = "ECB2F0F3-1c3d-4b6a-9f10-0123456789ab"

// disk makes the beginning of a disk with a GPT: partition 3 is the boot
// partition, and 1 something else.
func disk(t testing.TB, sector int, kind guid.GUID) []byte {
	id, err := guid.Parse(testUUID)
	if err != nil {
		t.Fatal(err)
	}
	const count, each = 128, 128
	table := make([]byte, count*each)
	copy(table, bytes.Repeat([]byte{7}, 32))
	copy(table[2*each:], kind[:])
	copy(table[2*each+16:], id[:])
	d := make([]byte, 2*sector+len(table))
	copy(d[2*sector:], table)
	h := d[sector:]
	copy(h, "EFI PART")
	le := binary.LittleEndian
	le.PutUint32(h[8:], 0x10000)
	le.PutUint32(h[12:], 92)
	le.PutUint64(h[72:], 2)
	le.PutUint32(h[80:], count)
	le.PutUint32(h[84:], each)
	le.PutUint32(h[88:], crc32.ChecksumIEEE(table))
	le.PutUint32(h[16:], crc32.ChecksumIEEE(h[:92]))
	return d
}

// kernelImage is the head of a kernel with an EFI stub.
func kernelImage(machine uint16, signature uint32) []byte {
	k := pefiletest.Program(machine, "")
	binary.LittleEndian.PutUint32(k[0x80+24+112+8*4+4:], signature)
	return k
}

// machine is a machine of tests: its medium is a folder.
type machine struct {
	*testing.T
	*Medium
	kernel, initrd *os.File
	mounts         []string // "rw" and "ro", in order
	mounted        bool
	unmounting     func(readOnly bool) error
	remounts       []string
	reboots        int
	rebootErr      error
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{T: t, rebootErr: errors.New("a test does not restart")}
	root := t.TempDir()
	vars := filepath.Join(root, "vars")
	m.Medium = &Medium{
		Disks: []string{"sda"}, Arch: "x86_64", Vars: vars, Dir: filepath.Join(root, "esp"), root: root,
		mounter: m.pretendMount,
		remount: func(readOnly bool) error {
			m.remounts = append(m.remounts, map[bool]string{true: "ro", false: "rw"}[readOnly])
			return nil
		},
		Reboot: func() error { m.reboots++; return m.rebootErr },
	}
	m.file("sys/class/block/sda/queue/logical_block_size", []byte("512\n"))
	m.file("sys/class/block/sda/sda1/partition", []byte("1\n"))
	m.file("sys/class/block/sda/sda3/partition", []byte("3\n"))
	m.file("dev/sda", disk(t, 512, espType))
	m.file("sys/class/block/sdb/queue/logical_block_size", []byte("4096\n"))
	damaged := disk(t, 4096, espType)
	damaged[len(damaged)-1] ^= 1
	m.file("dev/sdb", damaged)
	m.set(varFeatures, []byte{0x7f, 0, 0, 0, 0, 0, 0, 0})
	m.set(varDevice, encodeText(testUUID))
	m.set(varCurrent, []byte{2, 0})
	m.set(varSecure, []byte{0})
	m.file("esp/loader/entries/internet.conf", []byte("title x\n"))
	m.kernel, m.initrd = m.open("kernel", kernelImage(pefile.MachineX8664, 0)), m.open("initrd", bytes.Repeat([]byte("initrd"), 1000))
	return m
}

func (m *machine) pretendMount(device, dir string, readOnly bool) (func() error, error) {
	if want := filepath.Join(m.root, "dev/sda3"); device != want || m.mounted {
		m.Errorf("mounts %s, want %s; mounted: %v", device, want, m.mounted)
	}
	m.mounted = true
	m.mounts = append(m.mounts, map[bool]string{true: "ro", false: "rw"}[readOnly])
	return func() error {
		m.mounted = false
		if m.unmounting != nil {
			return m.unmounting(readOnly)
		}
		return nil
	}, nil
}

func (m *machine) file(name string, data []byte) {
	m.Helper()
	path := filepath.Join(m.root, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644)); err != nil {
		m.Fatal(err)
	}
}

func (m *machine) set(name string, value []byte) {
	m.file("vars/"+name, append([]byte{7, 0, 0, 0}, value...))
}

func (m *machine) open(name string, data []byte) *os.File {
	m.file(name, data)
	f, err := os.Open(filepath.Join(m.root, name))
	if err != nil {
		m.Fatal(err)
	}
	m.Cleanup(func() { f.Close() })
	return f
}

// tree lists what is on the boot partition.
func (m *machine) tree() (names []string) {
	_ = filepath.WalkDir(m.Dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(m.Dir, path)
			names = append(names, rel)
		}
		return nil
	})
	return names
}

func (m *machine) bare() {
	m.Helper()
	if got := m.tree(); !slices.Equal(got, []string{"loader/entries/internet.conf"}) {
		m.Errorf("the boot partition holds %v", got)
	}
	if m.mounted || (variables{m.Vars}).oneShot() {
		m.Errorf("mounted: %v, one-shot: %v", m.mounted, variables{m.Vars}.oneShot())
	}
}

// fails asserts an error with a code, a hint and a text.
func fails(t *testing.T, err error, k kind, text string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Code() != k.Code || e.Hint() == "" || !strings.Contains(err.Error(), text) {
		t.Errorf("error = %v, want %s with %q", err, k.Code, text)
	}
}

func TestPrepareAndRestart(t *testing.T) {
	m := newMachine(t)
	if err := m.Probe(); err != nil || len(m.mounts) != 0 {
		t.Fatalf("Probe = %v, mounts %v", err, m.mounts)
	}
	if err := m.Room(1 << 10); err != nil || !slices.Equal(m.mounts, []string{"ro"}) {
		t.Fatalf("Room = %v, mounts %v", err, m.mounts)
	}
	if err := m.Prepare(m.kernel, m.initrd, "quiet console=ttyS0"); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(m.mounts, []string{"ro", "rw", "ro"}) || m.mounted {
		t.Errorf("mounts %v", m.mounts)
	}
	want := []string{"loader/entries/internet.conf", entryFile, initrdFile, kernelFile}
	if got := m.tree(); !slices.Equal(got, want) {
		t.Errorf("the boot partition holds %v, want %v", got, want)
	}
	text, _ := os.ReadFile(filepath.Join(m.Dir, entryFile))
	if e, err := parseEntry(text); err != nil || e.Options != "quiet console=ttyS0" || e.Linux != "/phase/oneshot/kernel" || e.Initrd != "/phase/oneshot/initrd" {
		t.Errorf("the entry is %+v, %v", e, err)
	}
	if (variables{m.Vars}).oneShot() {
		t.Error("the firmware knows of it before Restart")
	}
	m.Medium.Reboot = func() error { // what the firmware finds
		vars := variables{m.Vars}
		next, err := vars.read(varNext, 2)
		if err != nil || !bytes.Equal(next, []byte{2, 0}) || !vars.oneShot() || m.mounted || !slices.Equal(m.remounts, []string{"rw", "ro"}) {
			t.Errorf("BootNext %v %v, one-shot %v, remounts %v", next, err, vars.oneShot(), m.remounts)
		}
		raw, _ := os.ReadFile(filepath.Join(m.Vars, varOneShot))
		if want := append([]byte{7, 0, 0, 0}, encodeText("phase-oneshot.conf")...); !bytes.Equal(raw, want) {
			t.Errorf("LoaderEntryOneShot is %q", raw)
		}
		return m.rebootErr
	}
	fails(t, m.Restart(), kindReboot, "a test does not restart")
	if _, err := os.Stat(filepath.Join(m.Vars, varNext)); err == nil || (variables{m.Vars}).oneShot() {
		t.Error("the firmware was not told to forget it")
	}
	if err := m.Cancel(); err != nil {
		t.Fatal(err)
	}
	m.bare()
	fails(t, m.Restart(), kindReboot, "nothing was prepared")
}

// Each of these machines is told from the start that it cannot be done, and
// nothing is mounted.
func TestProbeRefuses(t *testing.T) {
	tests := map[string]struct {
		change func(*machine)
		kind   kind
		text   string
	}{
		"no UEFI":       {func(m *machine) { m.Vars = filepath.Join(m.root, "none") }, kindLoader, "not started by UEFI"},
		"other loader":  {func(m *machine) { os.Remove(filepath.Join(m.Vars, varFeatures)) }, kindLoader, "takes no entries"},
		"old loader":    {func(m *machine) { m.set(varFeatures, []byte{7, 0, 0, 0, 0, 0, 0, 0}) }, kindLoader, "takes no entries"},
		"odd features":  {func(m *machine) { m.set(varFeatures, []byte{0xff}) }, kindLoader, "takes no entries"},
		"no medium":     {func(m *machine) { m.Disks = nil }, kindMedium, "not started from a medium"},
		"no device":     {func(m *machine) { os.Remove(filepath.Join(m.Vars, varDevice)) }, kindLoader, "where it came from"},
		"odd device":    {func(m *machine) { m.set(varDevice, encodeText("sda1")) }, kindLoader, "no GUID"},
		"other disk":    {func(m *machine) { m.set(varDevice, encodeText(strings.Replace(testUUID, "ab", "ac", 1))) }, kindMedium, "another disk"},
		"other type":    {func(m *machine) { m.file("dev/sda", disk(m.T, 512, guid.GUID{1})) }, kindMedium, "another disk"},
		"no table":      {func(m *machine) { m.file("dev/sda", make([]byte, 4096)) }, kindMount, "no GPT"},
		"damaged table": {func(m *machine) { m.Disks = []string{"sdb"} }, kindMount, "checksum of the entries"},
		"no disk":       {func(m *machine) { m.Disks = []string{"sdx"} }, kindMount, "cannot be read"},
		"a path":        {func(m *machine) { m.Disks = []string{"../sda"} }, kindMedium, "no disk"},
		"no partition":  {func(m *machine) { os.RemoveAll(filepath.Join(m.root, "sys/class/block/sda/sda3")) }, kindMount, "does not know partition 3"},
		"ignored": {func(m *machine) {
			m.set(varOneShot, encodeText(EntryID))
			if err := m.Clear(); err != nil {
				m.Error(err)
			}
			m.mounts = nil
		}, kindIgnored, "did not start the new system"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.T = t
			tt.change(m)
			fails(t, m.Probe(), tt.kind, tt.text)
			if tt.kind == kindLoader && !strings.Contains(tt.kind.Hint, "--chain uki has none") {
				t.Error("not every medium has a boot loader")
			}
			if err := m.Prepare(m.kernel, m.initrd, ""); err == nil || len(m.mounts) != 0 {
				t.Errorf("Prepare = %v, mounts %v", err, m.mounts)
			}
			m.bare()
		})
	}
}

// What cannot be started, or kept, leaves nothing behind.
func TestPrepareRefuses(t *testing.T) {
	tests := map[string]struct {
		change  func(*machine)
		cmdline string
		kind    kind
		text    string
	}{
		"no kernel":     {func(m *machine) { m.kernel = m.open("k2", []byte("#!/bin/sh")) }, "", kindKernel, "no MZ"},
		"other machine": {func(m *machine) { m.kernel = m.open("k2", kernelImage(pefile.MachineARM64, 0)) }, "", kindKernel, "another kind of machine"},
		"not signed":    {func(m *machine) { m.set(varSecure, []byte{1}) }, "", kindSecure, "not signed"},
		"long line":     {func(m *machine) {}, strings.Repeat("x", maxOptions+1), kindKernel, "at most"},
		"two lines":     {func(m *machine) {}, "quiet\nlinux /evil", kindKernel, "boot entry"},
		"blank at end":  {func(m *machine) {}, "quiet ", kindKernel, "blanks"},
		"full": {func(m *machine) {
			if err := os.Truncate(m.initrd.Name(), 1<<42); err != nil {
				m.Skip(err)
			}
		}, "", kindFull, "the boot partition has"},
		"a file in the way": {func(m *machine) { m.file("esp/phase", []byte("x")) }, "", kindWrite, "cannot be written"},
		"busy": {func(m *machine) {
			m.unmounting = func(readOnly bool) error {
				m.unmounting = nil
				return errors.New("device or resource busy")
			}
		}, "", kindWrite, "does not let go"},
		"rot": {func(m *machine) {
			m.unmounting = func(readOnly bool) error {
				m.unmounting = nil
				return os.WriteFile(filepath.Join(m.Dir, kernelFile), []byte("other"), 0o600)
			}
		}, "", kindWrite, "has not kept phase/oneshot/kernel"},
		"lost entry": {func(m *machine) {
			m.unmounting = func(readOnly bool) error {
				m.unmounting = nil
				return os.Remove(filepath.Join(m.Dir, entryFile))
			}
		}, "", kindWrite, "has not kept the entry"},
		"other entry": {func(m *machine) {
			m.unmounting = func(readOnly bool) error {
				m.unmounting = nil
				e := newEntry("init=/bin/sh")
				text, err := e.marshal()
				return errors.Join(err, os.WriteFile(filepath.Join(m.Dir, entryFile), text, 0o600))
			}
		}, "", kindWrite, "has not kept the entry"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.T = t
			tt.change(m)
			fails(t, m.Prepare(m.kernel, m.initrd, tt.cmdline), tt.kind, tt.text)
			os.Remove(filepath.Join(m.Dir, "phase")) // what a test put there
			m.bare()
			fails(t, m.Restart(), kindReboot, "nothing was prepared")
			if m.reboots != 0 {
				t.Error("the machine restarted")
			}
		})
	}
}

// A signed kernel goes through with Secure Boot: the firmware judges by whom.
func TestPrepareSigned(t *testing.T) {
	m := newMachine(t)
	m.set(varSecure, []byte{1})
	if err := m.Prepare(m.open("k2", kernelImage(pefile.MachineX8664, 1)), m.initrd, ""); err != nil {
		t.Error(err)
	}
}

func TestRoomRefuses(t *testing.T) {
	m := newMachine(t)
	fails(t, m.Room(1<<60), kindFull, "the boot partition has")
	m.mounter = func(string, string, bool) (func() error, error) { return nil, errors.New("wrong fs type") }
	fails(t, m.Room(1), kindMount, "wrong fs type")
	m.bare()
}

// A firmware that keeps nothing, or something else, is found out before the
// machine restarts.
func TestRestartWithoutFirmware(t *testing.T) {
	for name, break_ := range map[string]func(*machine){
		"read-only": func(m *machine) { m.remount = func(bool) error { return errors.New("read-only") } },
		"full":      func(m *machine) { m.file("vars/"+varOneShot+"/x", nil) },
		"no next":   func(m *machine) { m.file("vars/"+varNext+"/x", nil) },
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			m.T = t
			if err := m.Prepare(m.kernel, m.initrd, ""); err != nil {
				t.Fatal(err)
			}
			break_(m)
			fails(t, m.Restart(), kindFirmware, "the firmware does not take it")
			if m.reboots != 0 || (variables{m.Vars}).oneShot() {
				t.Errorf("%d restarts, one-shot %v", m.reboots, variables{m.Vars}.oneShot())
			}
		})
	}
}

// A machine whose firmware has no BootCurrent goes by its own order.
func TestRestartWithoutBootCurrent(t *testing.T) {
	m := newMachine(t)
	os.Remove(filepath.Join(m.Vars, varCurrent))
	if err := m.Prepare(m.kernel, m.initrd, ""); err != nil {
		t.Fatal(err)
	}
	fails(t, m.Restart(), kindReboot, "does not restart")
	if m.reboots != 1 || exists(filepath.Join(m.Vars, varNext)) {
		t.Errorf("%d restarts, BootNext: %v", m.reboots, exists(filepath.Join(m.Vars, varNext)))
	}
}

func TestClear(t *testing.T) {
	m := newMachine(t)
	if m.Stale() || m.Ours() {
		t.Error("a fresh medium is stale")
	}
	if err := m.Clear(); err != nil || !slices.Equal(m.mounts, []string{"ro"}) || len(m.remounts) != 0 {
		t.Errorf("Clear of nothing = %v, mounts %v", err, m.mounts)
	}
	if err := m.Prepare(m.kernel, m.initrd, ""); err != nil {
		t.Fatal(err)
	}
	// The next start: the loader has taken the entry.
	m.set(varEntries, slices.Concat(encodeText("internet.conf"), encodeText(EntryID)))
	m.set(varSelected, encodeText(EntryID))
	if !m.Stale() || !m.Ours() {
		t.Error("an entry that was used is not seen")
	}
	if err := m.Clear(); err != nil {
		t.Fatal(err)
	}
	m.bare()
	if err := m.Probe(); err != nil {
		t.Errorf("the entry was taken, and yet: %v", err)
	}
}

// An attempt that was cut off is removed, and counts as room.
func TestLeftovers(t *testing.T) {
	m := newMachine(t)
	m.file("esp/"+kernelFile+".new", []byte("half"))
	m.file("esp/"+initrdFile, []byte("old"))
	if err := m.Prepare(m.kernel, m.initrd, ""); err != nil {
		t.Fatal(err)
	}
	if exists(filepath.Join(m.Dir, kernelFile+".new")) {
		t.Error("half a kernel is still there")
	}
	if err := m.Clear(); err != nil {
		t.Fatal(err)
	}
	m.bare()
}
