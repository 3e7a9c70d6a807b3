package vm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// firmwarePlaces lists where distributions install UEFI firmware for guests,
// in order of preference: Debian and Ubuntu, Fedora, Arch, and QEMU's own
// bundle. The 4 MiB builds come first; distributions are dropping the others.
//
// OVMF needs 3.3 to 3.8 s of computing under TCG from power on to the boot
// loader. It waits for nothing, and none of these changes that measurably:
// boot menu and splash options, PXE switches in fw_cfg, system management
// mode, machine type pc, memory size, display, size of the translation cache.
// Debian's 2 MiB build is 0.5 s faster, a machine without network card 0.1 s.
var firmwarePlaces = map[string][]Firmware{
	X8664: {
		{"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"},
		{"/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"},
		{"/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"},
		{"/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"},
		{"/usr/share/qemu/edk2-x86_64-code.fd", "/usr/share/qemu/edk2-i386-vars.fd"},
	},
	ARM64: {
		{"/usr/share/AAVMF/AAVMF_CODE.no-secboot.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"},
		{"/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"},
		{"/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw", "/usr/share/edk2/aarch64/vars-template-pflash.raw"},
		{"/usr/share/qemu/edk2-aarch64-code.fd", "/usr/share/qemu/edk2-arm-vars.fd"},
	},
}

// securePlaces is firmwarePlaces for builds that check signatures, with templates
// of variables that hold Microsoft's keys as PCs have them. Arch Linux and QEMU's
// bundle have none with keys; theirs serve machines that bring their own variables.
//
// On x86_64 such a build keeps its variables in system management mode (SMM), which
// TCG emulates and KVM has unless it was built without. Under TCG that costs
// nothing with one processor (3.6 s of computing up to the boot loader, with and
// without); with two it costs 8 s more, since each entry gathers both.
var securePlaces = map[string][]Firmware{
	X8664: {
		{"/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"},
		{"/usr/share/OVMF/OVMF_CODE.secboot.fd", "/usr/share/OVMF/OVMF_VARS.ms.fd"},
		{"/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd", "/usr/share/edk2/ovmf/OVMF_VARS.secboot.fd"},
		{"/usr/share/edk2/x64/OVMF_CODE.secboot.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"},
		{"/usr/share/qemu/edk2-x86_64-secure-code.fd", "/usr/share/qemu/edk2-i386-vars.fd"},
	},
	ARM64: {
		{"/usr/share/AAVMF/AAVMF_CODE.secboot.fd", "/usr/share/AAVMF/AAVMF_VARS.ms.fd"},
		{"/usr/share/AAVMF/AAVMF_CODE.ms.fd", "/usr/share/AAVMF/AAVMF_VARS.ms.fd"},
	},
}

// NoFirmwareError says that no UEFI firmware for guests is installed.
type NoFirmwareError struct {
	Arch       string
	SecureBoot bool // of the kind that checks signatures
}

func (e *NoFirmwareError) Error() string {
	kind := "UEFI firmware"
	if e.SecureBoot {
		kind += " with Secure Boot"
	}
	return "no " + kind + " for " + e.Arch + " guests is installed"
}

// Hint says what to do about it.
func (e *NoFirmwareError) Hint() string {
	if e.Arch == ARM64 {
		return "Install it with: sudo apt-get install qemu-efi-aarch64"
	}
	return "Install it with: sudo apt-get install ovmf"
}

// FindFirmware returns the first UEFI firmware for arch whose two files both
// exist. It fails with *NoFirmwareError.
func FindFirmware(arch string) (Firmware, error) {
	return FindFirmwareIn(os.DirFS("/"), arch)
}

// FindFirmwareIn is FindFirmware in another root folder.
func FindFirmwareIn(root fs.FS, arch string) (Firmware, error) {
	if f, ok := firstFirmware(root, firmwarePlaces[arch]); ok {
		return f, nil
	}
	return Firmware{}, &NoFirmwareError{Arch: arch}
}

// FindSecureFirmware is FindFirmware for firmware that checks signatures, in
// another root folder. Its template of variables may be one without keys.
func FindSecureFirmware(root fs.FS, arch string) (Firmware, error) {
	if f, ok := firstFirmware(root, securePlaces[arch]); ok {
		return f, nil
	}
	return Firmware{}, &NoFirmwareError{Arch: arch, SecureBoot: true}
}

func firstFirmware(root fs.FS, places []Firmware) (Firmware, bool) {
	for _, f := range places {
		if isFile(root, f.Code) && isFile(root, f.Vars) {
			return f, true
		}
	}
	return Firmware{}, false
}

// ErrNoKeys says that a firmware would not check any signature.
var ErrNoKeys = errors.New("the firmware's template of variables holds no Secure Boot keys")

// platformKey is the variable without which a firmware is in setup mode and lets
// everything start (UEFI specification 2.10, 32.3).
const platformKey = "PK-8be4df61-93ca-11d2-aa0d-00e098032b8c"

// checkKeys makes sure that a template holds keys.
func checkKeys(template string) error {
	vars, err := ReadVariables(template)
	if err != nil {
		return fmt.Errorf("firmware variables: %w", err)
	}
	if vars[platformKey].Data == "" {
		return fmt.Errorf("%w (%s)", ErrNoKeys, template)
	}
	return nil
}

func isFile(root fs.FS, path string) bool {
	info, err := fs.Stat(root, path[1:])
	return err == nil && info.Mode().IsRegular()
}

// maxVars bounds a variable store: arm64's are 64 MiB.
const maxVars = 64 << 20

// copyVars makes the machine's own variable store from a template.
func copyVars(path, template string) error {
	info, err := os.Stat(template)
	if err != nil {
		return fmt.Errorf("firmware variables: %w", err)
	}
	if info.Size() > maxVars {
		return fmt.Errorf("firmware variables: %s has %d bytes, more than %d", template, info.Size(), maxVars)
	}
	data, err := os.ReadFile(template)
	if err != nil {
		return fmt.Errorf("firmware variables: %w", err)
	}
	return os.WriteFile(path, data, 0o600)
}
