package secureboot

import (
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/phasebased/phase/internal/pefile"
)

// loader is a program that says it is systemd-boot.
func loader() []byte {
	p := program()
	copy(p[0x500:], "#### LoaderInfo: systemd-boot 252 ####")
	return p
}

// unified is a program with the sections of a unified kernel image, but for those left
// out.
func unified(t *testing.T, without string) []byte {
	t.Helper()
	f := mustParse(t, program())
	var parts []pefile.Addition
	for _, name := range []string{".cmdline", ".initrd", ".linux"} {
		if name != without {
			parts = append(parts, pefile.Addition{Name: name, Content: []byte("x")})
		}
	}
	out, err := f.Append(parts...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func signedBy(t *testing.T, data []byte, k *Key) []byte {
	t.Helper()
	out, err := Sign(data, k)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestInspect(t *testing.T) {
	own, vendor := keys()[0], keys()[1]
	const first, second, uki = "EFI/BOOT/BOOTX64.EFI", "EFI/BOOT/grubx64.efi", "EFI/Linux/phase-internet-x86_64.efi"
	shim, boot, image := signedBy(t, program(), vendor), signedBy(t, loader(), own), signedBy(t, program(), own)
	sealed := signedBy(t, unified(t, ""), own)
	for name, tt := range map[string]struct {
		files map[string][]byte
		tier  int
		why   string
	}{
		"empty":             {nil, TierOff, "nothing"},
		"unsigned":          {map[string][]byte{first: loader()}, TierOff, "first program"},
		"stock":             {map[string][]byte{first: shim, second: signedBy(t, program(), vendor)}, TierStock, "nobody signs the seed"},
		"MOK":               {map[string][]byte{first: shim, second: sealed}, TierMOK, "one image, signed by Test db, shim by its vendor"},
		"owner":             {map[string][]byte{first: sealed}, TierOwner, "one image, signed by Test db"},
		"altered":           {map[string][]byte{first: flipped(sealed, 0x405)}, TierOff, "first program"},
		"altered behind":    {map[string][]byte{first: shim, second: flipped(sealed, 0x405)}, TierOff, "shim starts"},
		"no initramfs":      {map[string][]byte{first: signedBy(t, unified(t, ".initrd"), own)}, TierOff, "kernel outside"},
		"no command line":   {map[string][]byte{first: signedBy(t, unified(t, ".cmdline"), own)}, TierOff, "kernel outside"},
		"kernel beside it":  {map[string][]byte{first: sealed, "phase/x86_64/vmlinuz": image}, TierOwner, "but so is phase/x86_64/vmlinuz"},
		"loader beside it":  {map[string][]byte{first: shim, second: sealed, "EFI/a.efi": boot}, TierMOK, "but so is EFI/a.efi"},
		"vendor's beside":   {map[string][]byte{first: sealed, "EFI/a.efi": shim}, TierOwner, "one image, signed by Test db"},
		"MOK, loader":       {map[string][]byte{first: shim, second: boot, uki: image}, TierMOK, "with any initramfs"},
		"owner, loader":     {map[string][]byte{first: boot, uki: image}, TierOwner, "with any initramfs"},
		"unsigned second":   {map[string][]byte{first: shim, second: loader(), uki: image}, TierOff, "shim starts"},
		"unsigned image":    {map[string][]byte{first: boot, uki: program()}, TierOff, uki},
		"altered image":     {map[string][]byte{first: boot, uki: flipped(image, 0x405)}, TierOff, uki},
		"stranger's image":  {map[string][]byte{first: shim, second: boot, uki: shim}, TierOff, uki},
		"no image":          {map[string][]byte{first: boot}, TierOff, "kernel outside"},
		"weakest is arm64":  {map[string][]byte{first: boot, uki: image, "EFI/BOOT/BOOTAA64.EFI": loader()}, TierOff, "first program"},
		"rubbish as loader": {map[string][]byte{first: []byte("x")}, TierOff, "first program"},
	} {
		m := Inspect(tt.files)
		if m.Tier != tt.tier || !strings.Contains(m.Why, tt.why) || len(m.Programs) != len(tt.files) {
			t.Errorf("%s: %d %q", name, m.Tier, m.Why)
		}
		if m.Tier >= TierMOK && !m.Enrol.Equal(own.Cert) {
			t.Errorf("%s: another certificate", name)
		}
	}
	if p := InspectProgram("x", []byte("rubbish")); p.Problem == "" {
		t.Error("rubbish has no problem")
	}
	if p := InspectProgram("x", flipped(image, 0x405)); len(p.Signers) != 1 || p.Signers[0].Name != "Test db" || p.Signers[0].Problem == "" {
		t.Errorf("%+v", p.Signers)
	}
	for name, want := range map[string]bool{first: true, "phase/x86_64/vmlinuz": true, "loader/loader.conf": false} {
		if WantsFile(name) != want {
			t.Error(name)
		}
	}
}

func TestStarts(t *testing.T) {
	own, vendor := keys()[0], keys()[1]
	const first, second, uki = "EFI/BOOT/BOOTX64.EFI", "EFI/BOOT/grubx64.efi", "EFI/Linux/phase-internet-x86_64.efi"
	shim, boot, image := signedBy(t, program(), vendor), signedBy(t, loader(), own), signedBy(t, program(), own)
	mok := Inspect(map[string][]byte{first: shim, second: boot, uki: image})
	owner := Inspect(map[string][]byte{first: boot, uki: image})
	list := func(k ...*Key) (certs []*x509.Certificate) {
		for _, key := range k {
			certs = append(certs, key.Cert)
		}
		return certs
	}
	for name, tt := range map[string]struct {
		machine Machine
		medium  Medium
		want    error
	}{
		"off":          {Machine{}, Inspect(nil), nil},
		"unsigned":     {Machine{Enabled: true, DB: list(own)}, Inspect(map[string][]byte{first: loader()}), ErrUnsigned},
		"owner":        {Machine{Enabled: true, DB: list(own)}, owner, nil},
		"other owner":  {Machine{Enabled: true, DB: list(vendor)}, owner, ErrStranger},
		"enrolled":     {Machine{Enabled: true, DB: list(vendor), MOK: list(own)}, mok, nil},
		"not enrolled": {Machine{Enabled: true, DB: list(vendor), MOK: list(vendor)}, mok, ErrNotEnrolled},
		"not known":    {Machine{Enabled: true, DB: list(vendor)}, mok, nil},
		"no vendor":    {Machine{Enabled: true, DB: list(own)}, mok, ErrStranger},
	} {
		if err := tt.machine.Starts(tt.medium); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
}

func TestReadMachine(t *testing.T) {
	own := keys()[0]
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte("\x06\x00\x00\x00" + s)} }
	list := string(SignatureList(own.Cert))
	full := fstest.MapFS{
		VariableName("SecureBoot"): file("\x01"), VariableName("SetupMode"): file("\x00"),
		VariableName(RoleDB): file(list), VariableName("MokListRT"): file(list),
	}
	m, err := ReadMachine(full)
	if err != nil || !m.Enabled || m.SetupMode || len(m.DB) != 1 || len(m.MOK) != 1 || !slices.EqualFunc(m.DB, m.MOK, (*x509.Certificate).Equal) {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := ReadMachine(fstest.MapFS{}); !errors.Is(err, ErrNoFirmware) {
		t.Errorf("no variables: %v", err)
	}
	for name, bad := range map[string]string{VariableName("SecureBoot"): "\x01\x01", VariableName("SetupMode"): "", VariableName(RoleDB): list[:50], VariableName("MokListRT"): "x"} {
		fsys := fstest.MapFS{}
		for k, v := range full {
			fsys[k] = v
		}
		fsys[name] = file(bad)
		if _, err := ReadMachine(fsys); err == nil || errors.Is(err, ErrNoFirmware) {
			t.Errorf("%s: %v", name, err)
		}
	}
	short := fstest.MapFS{VariableName("SecureBoot"): &fstest.MapFile{Data: []byte("\x06")}}
	if _, err := ReadMachine(short); err == nil {
		t.Error("a variable without attributes")
	}
}
