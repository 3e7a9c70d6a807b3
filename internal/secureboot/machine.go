package secureboot

import (
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

func hexOf(b []byte) string { return hex.EncodeToString(b) }

// A Machine is what a firmware says about Secure Boot.
type Machine struct {
	Enabled   bool                // signatures are checked
	SetupMode bool                // it has no platform key: whoever asks may enrol keys
	DB        []*x509.Certificate // what it starts programs of
	MOK       []*x509.Certificate // what shim adds; only while shim has started the system
	Hashes    int                 // further entries of db
}

// ErrNoFirmware says that a machine has no variables of UEFI to read.
var ErrNoFirmware = errors.New("this system was not started by UEFI, or hides its variables")

// ReadMachine reads the variables in efivars, the folder that Linux mounts at
// /sys/firmware/efi/efivars.
func ReadMachine(efivars fs.FS) (Machine, error) {
	var m Machine
	enabled, err := readByte(efivars, "SecureBoot")
	if errors.Is(err, fs.ErrNotExist) {
		return m, ErrNoFirmware
	}
	if err != nil {
		return m, err
	}
	setup, err := readByte(efivars, "SetupMode")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return m, err
	}
	m.Enabled, m.SetupMode = enabled == 1, setup == 1
	if m.DB, m.Hashes, err = readList(efivars, RoleDB); err != nil {
		return m, err
	}
	m.MOK, _, err = readList(efivars, "MokListRT")
	return m, err
}

// readVariable returns a variable's content without the attributes that efivarfs
// puts before it; fs.ErrNotExist if there is none.
func readVariable(efivars fs.FS, role string) ([]byte, error) {
	f, err := efivars.Open(VariableName(role))
	if err != nil {
		return nil, fmt.Errorf("secureboot: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxLists+5))
	if err != nil {
		return nil, fmt.Errorf("secureboot: variable %s: %w", role, err)
	}
	if len(data) < 4 || len(data) > maxLists+4 {
		return nil, fmt.Errorf("secureboot: variable %s has %d bytes", role, len(data))
	}
	return data[4:], nil
}

func readByte(efivars fs.FS, role string) (byte, error) {
	data, err := readVariable(efivars, role)
	if err == nil && len(data) != 1 {
		err = fmt.Errorf("secureboot: variable %s has %d bytes, expected one", role, len(data))
	}
	if err != nil {
		return 0, err
	}
	return data[0], nil
}

// readList reads a list of certificates; none if there is no such variable.
func readList(efivars fs.FS, role string) ([]*x509.Certificate, int, error) {
	data, err := readVariable(efivars, role)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	certs, others, err := ParseSignatureList(data)
	if err != nil {
		return nil, 0, fmt.Errorf("secureboot: variable %s: %w", role, err)
	}
	return certs, others, nil
}

// Starts answers whether this machine starts a medium, as far as its variables
// tell: nil, or a reason. Whether shim's own list holds a key is known only while
// shim has started the running system.
func (m Machine) Starts(medium Medium) error {
	switch {
	case !m.Enabled:
		return nil
	case medium.Tier == TierOff:
		return ErrUnsigned
	case !m.trusts(medium.first()):
		return ErrStranger
	case medium.Tier == TierMOK && len(m.MOK) > 0 && !holds(m.MOK, medium.Enrol):
		return ErrNotEnrolled
	}
	return nil
}

// ErrNotEnrolled says that a key was not enrolled at shim's screen.
var ErrNotEnrolled = errors.New("the medium's key is not enrolled on this machine")

func (m Machine) trusts(p *Program) bool {
	return p != nil && Verify(p.data, m.DB) == nil
}

func holds(certs []*x509.Certificate, c *x509.Certificate) bool {
	for _, have := range certs {
		if c != nil && have.Equal(c) {
			return true
		}
	}
	return false
}

// first is the program that PCs start.
func (m Medium) first() *Program {
	for i := range m.Programs {
		if m.Programs[i].Path == bootFolder+"BOOTX64.EFI" {
			return &m.Programs[i]
		}
	}
	return nil
}
