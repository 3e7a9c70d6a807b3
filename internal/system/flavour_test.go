package system

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/image"
)

// genericSources have a kernel for real machines: drivers by folder and bus.
func genericSources(t *testing.T) Sources {
	t.Helper()
	src := fakeSources(t)
	src.Flavour = FlavourGeneric
	var dep, alias strings.Builder
	for _, m := range []struct{ file, needs, alias string }{
		{"kernel/virtio.ko", "", ""},
		{"kernel/virtio_net.ko", "kernel/virtio.ko", ""},
		{"kernel/overlay.ko.gz", "", ""},
		{"kernel/drivers/net/ethernet/a/card-of-a.ko", "kernel/drivers/net/ethernet/a/liba.ko", "pci:v00001234d*"},
		{"kernel/drivers/net/ethernet/a/liba.ko", "", ""},
		{"kernel/drivers/net/ethernet/isa-card.ko", "", "isapnp:x"},
		{"kernel/drivers/net/usb/ax88179.ko", "", "usb:v0B95p1790d*"},
		{"kernel/drivers/net/wireless/radio.ko", "", "pci:v00004321d*"},
		{"kernel/drivers/scsi/raid.ko", "", "pci:v00001000d*"},
		{"kernel/drivers/scsi/scsi_transport_fc.ko", "", ""},
		{"kernel/drivers/scsi/fibre.ko", "kernel/drivers/scsi/scsi_transport_fc.ko", "pci:v00001077d*"},
		{"kernel/drivers/clk/clock.ko", "", "of:N*T*Cboard,clock"},
		{"kernel/sound/noise.ko", "", "pci:v00008086d*"},
	} {
		if !strings.HasSuffix(m.file, ".gz") {
			write(t, filepath.Join(src.ModulesDir, m.file), []byte("module "+filepath.Base(m.file)))
		}
		dep.WriteString(strings.TrimSpace(m.file+": "+m.needs) + "\n")
		if m.alias != "" {
			alias.WriteString("alias " + m.alias + " " + strings.TrimSuffix(filepath.Base(m.file), ".ko") + "\n")
		}
	}
	write(t, src.ModulesDir+"/kernel/drivers/net/ethernet/a/card-of-a.ko", moduleWith("firmware=a/card.bin\x00vermagic=6.1.0-test SMP\x00"))
	write(t, src.ModulesDir+"/modules.dep", []byte(dep.String()))
	write(t, src.ModulesDir+"/modules.alias", []byte(alias.String()))
	return src
}

// seedOf builds a seed and returns its archive.
func seedOf(t *testing.T, src Sources) ([]byte, error) {
	t.Helper()
	in, err := Prepare(t.Context(), src)
	if err != nil {
		return nil, err
	}
	dir := t.TempDir()
	init := buildGo(t, dir, "init", "package main\nfunc main() {}\n")
	b := &Build{Inputs: in, Version: "0.0.1", Time: buildTime}
	out, _, err := b.Seed(t.Context(), SeedConfig{Out: dir + "/seed", Pid1: init, Init: init, Root: testRoot(t)})
	if err != nil {
		return nil, err
	}
	return unpackSeed(t, out.Path), nil
}

func TestFlavours(t *testing.T) {
	src := genericSources(t)
	for flavour, want := range map[Flavour]string{
		FlavourGeneric: "card-of-a liba ax88179 raid", FlavourCloud: "", "": "",
	} {
		src.Flavour = flavour
		archive, err := seedOf(t, src)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"card-of-a", "liba", "ax88179", "raid", "isa-card", "radio", "scsi_transport_fc", "fibre", "clock", "noise"} {
			has := bytes.Contains(archive, []byte("/"+name+".ko\x00"))
			if has != slices.Contains(strings.Fields(want), name) {
				t.Errorf("flavour %q: %s is there: %v", flavour, name, has)
			}
		}
	}
	if got := platforms[image.ArchARM64].classes; len(got) == 0 {
		t.Error("boards with a device tree lack what comes before their devices")
	}
}

func TestFlavourNames(t *testing.T) {
	for _, f := range Flavours() {
		if got, err := ParseFlavour(string(f)); err != nil || got != f {
			t.Errorf("%s: %s, %v", f, got, err)
		}
	}
	for _, text := range []string{"", "Cloud", "wifi"} {
		if _, err := ParseFlavour(text); err == nil {
			t.Errorf("%q is a flavour", text)
		}
	}
	src := fakeSources(t)
	src.Flavour = "tiny"
	if _, err := Prepare(t.Context(), src); err == nil || !strings.Contains(err.Error(), `unknown flavour "tiny"`) {
		t.Errorf("got %v", err)
	}
	for _, s := range []Sources{{WiFi: true}, {Firmware: []string{"x"}}, {Flavour: FlavourGeneric}} {
		if s.flavour() != FlavourGeneric {
			t.Errorf("%+v is for virtual machines", s)
		}
	}
}

func TestLimits(t *testing.T) {
	b := &Build{Inputs: &Inputs{}}
	if got := b.SeedLimit(SeedConfig{}); got != MaxSeed {
		t.Errorf("cloud: %d", got)
	}
	if got := b.RootfsLimit(NodeConfig{Format: FormatEROFS}); got != MaxRootfs*3/2 {
		t.Errorf("cloud, erofs: %d", got)
	}
	b.Inputs.Flavour = FlavourGeneric
	if got := b.SeedLimit(SeedConfig{Tor: true, Shell: true}); got != MaxSeedGeneric+MaxSeedTor+MaxSeedShell {
		t.Errorf("generic with Tor and a shell: %d", got)
	}
	b.Inputs.Firmware = &Firmware{}
	if got := b.SeedLimit(SeedConfig{}); got != MaxSeedGeneric+MaxSeedFirmware {
		t.Errorf("generic with firmware: %d", got)
	}
	var le *LimitError
	if err := b.checkLimit("the seed", 11, 10); !errors.As(err, &le) || le.Hint() == "" || !strings.Contains(err.Error(), "11 bytes, the limit for flavour generic is 10") {
		t.Errorf("got %v", err)
	}
	if err := b.checkLimit("the seed", 10, 10); err != nil {
		t.Error(err)
	}
}

func TestFirmwareOfAFolder(t *testing.T) {
	src, dir := genericSources(t), t.TempDir()+"/firmware"
	src.Firmware = []string{dir}
	write(t, dir+"/a/card-v2.bin", []byte("firmware of a"))
	if err := os.Symlink("card-v2.bin", dir+"/a/card.bin"); err != nil {
		t.Fatal(err)
	}
	write(t, dir+"/other.bin", []byte("firmware of others"))
	if err := os.Symlink("/etc/passwd", dir+"/leak.bin"); err != nil {
		t.Fatal(err)
	}
	archive, err := seedOf(t, src)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(archive, []byte("lib/firmware/a/card.bin\x00")) || !bytes.Contains(archive, []byte("firmware of a")) {
		t.Error("the seed lacks the firmware")
	}
	for _, not := range []string{"firmware of others", "root:x:", "card-v2.bin"} {
		if bytes.Contains(archive, []byte(not)) {
			t.Errorf("the seed has %q", not)
		}
	}
	in, err := Prepare(t.Context(), src)
	if err != nil || !slices.ContainsFunc(in.Materials, func(m Material) bool { return m.Name == "firmware" && !m.SHA256.IsZero() }) {
		t.Errorf("materials %+v, %v", in, err)
	}

	os.Remove(dir + "/a/card.bin")
	var unused *UnusedFirmwareError
	if _, err := seedOf(t, src); !errors.As(err, &unused) || unused.Hint() == "" || !strings.Contains(err.Error(), "no driver that is carried asks for firmware of") {
		t.Errorf("unused: %v", err)
	}
	os.RemoveAll(dir)
	var fe *FirmwareError
	if _, err := seedOf(t, src); !errors.As(err, &fe) || strings.Contains(fe.Hint(), "apt") {
		t.Errorf("no folder: %v", err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := seedOf(t, src); !errors.As(err, &fe) || !strings.Contains(err.Error(), "holds no firmware") {
		t.Errorf("empty folder: %v", err)
	}
}

// TestGivenKernel: what a kernel and its modules say of themselves counts, not the
// names of files.
func TestGivenKernel(t *testing.T) {
	src := genericSources(t)
	renamed := filepath.Join(filepath.Dir(src.ModulesDir), "modules")
	if err := os.Rename(src.ModulesDir, renamed); err != nil {
		t.Fatal(err)
	}
	src.ModulesDir = renamed
	in, err := Prepare(t.Context(), src)
	if err != nil || in.Kernel.Release != "6.1.0-test" {
		t.Errorf("%+v, %v", in, err)
	}
	named := func(release string) {
		data := efiFile()
		binary.LittleEndian.PutUint16(data[0x20e:], 0x300)
		copy(data[0x500:], release+" (builder@example) #1 SMP\x00")
		write(t, src.KernelImage, data)
	}
	named("6.1.0-test")
	if _, err := Prepare(t.Context(), src); err != nil {
		t.Error(err)
	}
	named("6.2.0-other")
	var re *ReleaseError
	if _, err := Prepare(t.Context(), src); !errors.As(err, &re) || re.Hint() == "" || !strings.Contains(err.Error(), "is 6.2.0-other, but the modules") {
		t.Errorf("got %v", err)
	}
	data := efiFile()
	binary.LittleEndian.PutUint16(data[0x20e:], 0xffff) // behind the end
	write(t, src.KernelImage, data)
	if _, err := Prepare(t.Context(), src); err != nil {
		t.Error(err)
	}
}

// TestWithoutApt: with files alone, no package is asked for; and whoever has neither
// is told what to give.
func TestWithoutApt(t *testing.T) {
	src := fakeSources(t)
	src.Offline = false
	t.Setenv("PATH", t.TempDir())
	if _, err := Prepare(t.Context(), src); err != nil {
		t.Error(err)
	}
	src.Loader = ""
	_, err := Prepare(t.Context(), src)
	var hinted interface{ Hint() string }
	if !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "elsewhere give a kernel file") {
		t.Errorf("got %v", err)
	}
}

func TestFindFiles(t *testing.T) {
	dir := t.TempDir() + "/parts[1]"
	for _, name := range []string{"vmlinuz-6.1", "lib/modules/6.1/kernel/x.ko", "systemd-bootx64.efi", "shimx64.efi.signed", "mmx64.efi", "grubx64.efi", "gcdx64.efi.signed", "linuxx64.efi.stub", "ca-certificates.crt", "firmware/x.bin"} {
		write(t, filepath.Join(dir, name), []byte("x"))
	}
	files, firmware, err := FindFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := Files{
		KernelImage: dir + "/vmlinuz-6.1", ModulesDir: dir + "/lib/modules/6.1", Loader: dir + "/systemd-bootx64.efi", Shim: dir + "/shimx64.efi.signed",
		MokManager: dir + "/mmx64.efi", Grub: dir + "/gcdx64.efi.signed", Stub: dir + "/linuxx64.efi.stub", CACerts: dir + "/ca-certificates.crt",
	}
	if files != want || firmware != dir+"/firmware/" || !files.Complete() {
		t.Errorf("%+v %q", files, firmware)
	}
	write(t, dir+"/vmlinuz-6.2", []byte("x"))
	var fe *FilesError
	if _, _, err := FindFiles(dir); !errors.As(err, &fe) || fe.Hint() == "" || !strings.Contains(err.Error(), "2 of vmlinuz*") {
		t.Errorf("two kernels: %v", err)
	}
	for _, none := range []string{t.TempDir(), dir + "/vmlinuz-6.1", dir + "/nowhere"} {
		if _, _, err := FindFiles(none); !errors.As(err, &fe) {
			t.Errorf("%s: %v", none, err)
		}
	}
}
