package vm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/phasebased/phase/internal/guid"
)

// Attributes of variables (UEFI specification 2.10, 8.2.1).
const (
	VariableNonVolatile       = 0x01
	VariableBootServices      = 0x02
	VariableRuntime           = 0x04
	VariableTimeAuthenticated = 0x20
)

// variableDeleted is cleared in the state of a variable that is gone.
const variableDeleted = 0x02

// maxVariableName bounds a variable's name in characters.
const maxVariableName = 256

// ErrVariableRoom says that a store has no room for more variables.
var ErrVariableRoom = errors.New("the firmware's variable store is full")

// WriteVariables puts variables into the file of a machine's UEFI variables, in
// place of those of the same name, as its firmware would; one without Data is
// deleted. Signatures are not asked for: whoever may write the file is the owner
// of the machine. at is the time stamp of variables that have one, to the second;
// the firmware takes only later changes to them. The machine must not be running.
func WriteVariables(path string, at time.Time, vars ...Variable) error {
	if _, err := ReadVariables(path); err != nil { // bounds and format
		return err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for _, v := range vars {
		if err := setVariable(data, at, v); err != nil {
			return fmt.Errorf("%s: variable %s: %w", path, v.Name, err)
		}
	}
	if _, err := parseVariables(data); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	temporary := path + ".new"
	if err := os.WriteFile(temporary, data, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

// setVariable changes one variable within a file's content.
func setVariable(data []byte, at time.Time, v Variable) error {
	record, err := encodeVariable(at, v)
	if err != nil {
		return err
	}
	store, err := variableStore(data)
	if err != nil {
		return err
	}
	free := 0
	for len(store)-free >= variableHeader && binary.LittleEndian.Uint16(store[free:]) == variableStart {
		old := store[free:]
		nameSize, dataSize := uint64(binary.LittleEndian.Uint32(old[36:])), uint64(binary.LittleEndian.Uint32(old[40:]))
		size := variableHeader + nameSize + dataSize
		if size > uint64(len(old)) {
			return fmt.Errorf("%w: a variable reaches beyond it", ErrVariables)
		}
		if string(old[44:variableHeader+nameSize]) == string(record[44:len(record)-len(v.Data)]) {
			old[2] &^= variableDeleted
		}
		free += int(min((size+3)&^3, uint64(len(old))))
	}
	switch {
	case v.Data == "":
		return nil
	case len(record) > len(store)-free:
		return ErrVariableRoom
	}
	copy(store[free:], record)
	return nil
}

// encodeVariable is a variable as the store holds it (VariableFormat.h,
// AUTHENTICATED_VARIABLE_HEADER).
func encodeVariable(at time.Time, v Variable) ([]byte, error) {
	name, vendor, err := splitVariableName(v.Name)
	if err != nil {
		return nil, err
	}
	if len(v.Data) > maxVars {
		return nil, ErrVariableRoom
	}
	units := utf16.Encode([]rune(name + "\x00"))
	b := make([]byte, variableHeader)
	binary.LittleEndian.PutUint16(b, variableStart)
	b[2] = variableAdded
	binary.LittleEndian.PutUint32(b[4:], v.Attributes)
	if v.Attributes&VariableTimeAuthenticated != 0 {
		at = at.UTC() // an EFI_TIME behind the eight bytes of a counter
		binary.LittleEndian.PutUint16(b[16:], uint16(at.Year()))
		copy(b[18:], []byte{byte(at.Month()), byte(at.Day()), byte(at.Hour()), byte(at.Minute()), byte(at.Second())})
	}
	binary.LittleEndian.PutUint32(b[36:], uint32(2*len(units)))
	binary.LittleEndian.PutUint32(b[40:], uint32(len(v.Data)))
	copy(b[44:], vendor[:])
	for _, u := range units {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return append(b, v.Data...), nil
}

// splitVariableName takes a name and a GUID apart, the reverse of variableName.
func splitVariableName(full string) (name string, vendor guid.GUID, err error) {
	const guidText = 36
	at := len(full) - guidText - 1
	if at < 1 || at > maxVariableName || full[at] != '-' || strings.ContainsRune(full, 0) {
		return "", vendor, fmt.Errorf("%q is not a variable's name, a dash and a GUID", full)
	}
	if vendor, err = guid.Parse(full[at+1:]); err != nil {
		return "", vendor, fmt.Errorf("%q does not end with a GUID", full)
	}
	if back, err := variableName(utf16Bytes(full[:at]), vendor); err != nil || back != full {
		return "", vendor, fmt.Errorf("%q is not how the firmware would write it", full)
	}
	return full[:at], vendor, nil
}

func utf16Bytes(s string) (b []byte) {
	for _, u := range utf16.Encode([]rune(s + "\x00")) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}
