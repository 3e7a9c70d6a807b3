package vm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"unicode/utf16"

	"github.com/phasebased/phase/internal/guid"
)

// A Variable is one variable of a UEFI firmware.
type Variable struct {
	// Name is the variable's name, a dash and its vendor's GUID, as efivarfs
	// writes them: "BootOrder-8be4df61-93ca-11d2-aa0d-00e098032b8c".
	Name       string
	Attributes uint32
	Data       string
}

// ErrVariables says that a file is no store of variables as EDK2 writes them.
var ErrVariables = errors.New("not a firmware's variable store")

// ReadVariables reads the file of a machine's UEFI variables (Config.Vars) as the
// firmware would find it at its next start: what was deleted is not in it. The
// machine must not be running. The format is EDK2's: a firmware volume (PI
// specification, volume 3) that holds authenticated variables
// (MdeModulePkg/Include/Guid/VariableFormat.h).
func ReadVariables(path string) (map[string]Variable, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxVars {
		return nil, fmt.Errorf("%s: %w: larger than %d bytes", path, ErrVariables, maxVars)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	vars, err := parseVariables(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return vars, nil
}

const (
	volumeHeader   = 56 // up to and with the revision; the block map follows
	storeHeader    = 28
	variableHeader = 60
	variableStart  = 0x55aa
	variableAdded  = 0x3f // valid
	variableLeaves = 0x3e // valid, and about to be replaced
)

// storeGUID is gEfiAuthenticatedVariableGuid, as its bytes lie.
const storeGUID = "\x78\x2c\xf3\xaa\x7b\x94\x9a\x43\xa1\x80\x2e\x14\x4e\xc3\x77\x92"

func parseVariables(data []byte) (map[string]Variable, error) {
	store, err := variableStore(data)
	if err != nil {
		return nil, err
	}
	vars := map[string]Variable{}
	for len(store) >= variableHeader && binary.LittleEndian.Uint16(store) == variableStart {
		state := store[2]
		nameSize, dataSize := uint64(binary.LittleEndian.Uint32(store[36:])), uint64(binary.LittleEndian.Uint32(store[40:]))
		size := variableHeader + nameSize + dataSize
		if size > uint64(len(store)) {
			return nil, fmt.Errorf("%w: a variable reaches beyond it", ErrVariables)
		}
		if state == variableAdded || state == variableLeaves {
			name, err := variableName(store[variableHeader:variableHeader+nameSize], guid.GUID(store[44:60]))
			if err != nil {
				return nil, err
			}
			if _, twice := vars[name]; !twice || state == variableAdded {
				vars[name] = Variable{name, binary.LittleEndian.Uint32(store[4:]), string(store[variableHeader+nameSize : size])}
			}
		}
		store = store[min((size+3)&^3, uint64(len(store))):]
	}
	// Flash that was never written reads as ones.
	if slices.ContainsFunc(store, func(b byte) bool { return b != 0xff }) {
		return nil, fmt.Errorf("%w: something that is no variable follows the last one", ErrVariables)
	}
	return vars, nil
}

// variableStore finds the variables within the volume.
func variableStore(data []byte) ([]byte, error) {
	if len(data) < volumeHeader || string(data[40:44]) != "_FVH" {
		return nil, fmt.Errorf("%w: no firmware volume", ErrVariables)
	}
	header := int(binary.LittleEndian.Uint16(data[48:]))
	if header < volumeHeader || len(data) < header+storeHeader {
		return nil, fmt.Errorf("%w: the volume's header does not fit", ErrVariables)
	}
	store := data[header:]
	if string(store[:16]) != storeGUID {
		return nil, fmt.Errorf("%w: it holds no authenticated variables", ErrVariables)
	}
	size := uint64(binary.LittleEndian.Uint32(store[16:]))
	if size < storeHeader || size > uint64(len(store)) || store[20] != 0x5a || store[21] != 0xfe {
		return nil, fmt.Errorf("%w: its size or state is not that of a formatted one", ErrVariables)
	}
	return store[storeHeader:size], nil
}

// variableName joins a name, in UTF-16 with a zero at its end, and a GUID.
func variableName(name []byte, vendor guid.GUID) (string, error) {
	if len(name) < 2 || len(name)%2 != 0 || !bytes.HasSuffix(name, []byte{0, 0}) {
		return "", fmt.Errorf("%w: a name does not end", ErrVariables)
	}
	units := make([]uint16, len(name)/2-1)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(name[2*i:])
	}
	return string(utf16.Decode(units)) + "-" + vendor.String(), nil
}
