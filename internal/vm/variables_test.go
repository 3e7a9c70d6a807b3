package vm

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf16"
)

const bootOrder = "BootOrder-8be4df61-93ca-11d2-aa0d-00e098032b8c"

// globalGUID is EFI_GLOBAL_VARIABLE, as its bytes lie.
const globalGUID = "\x61\xdf\xe4\x8b\xca\x93\xd2\x11\xaa\x0d\x00\xe0\x98\x03\x2b\x8c"

// variable is one of a store.
func variable(state byte, name, data string) string {
	units := utf16.Encode([]rune(name + "\x00"))
	b := make([]byte, variableHeader)
	binary.LittleEndian.PutUint16(b, variableStart)
	b[2] = state
	binary.LittleEndian.PutUint32(b[4:], 7)
	binary.LittleEndian.PutUint32(b[36:], uint32(2*len(units)))
	binary.LittleEndian.PutUint32(b[40:], uint32(len(data)))
	copy(b[44:], globalGUID)
	for _, u := range units {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	b = append(b, data...)
	for len(b)%4 != 0 {
		b = append(b, 0xff)
	}
	return string(b)
}

// storeOf is a file with these variables.
func storeOf(variables ...string) []byte {
	const header, size = 72, 4096
	b := make([]byte, header)
	copy(b[40:], "_FVH")
	binary.LittleEndian.PutUint16(b[48:], header)
	b = append(b, storeGUID...)
	b = binary.LittleEndian.AppendUint32(b, size)
	b = append(b, 0x5a, 0xfe, 0, 0, 0, 0, 0, 0)
	b = append(b, strings.Join(variables, "")...)
	for len(b) < header+size {
		b = append(b, 0xff)
	}
	return append(b, "what follows is not the variables' affair"...)
}

func TestReadVariables(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vars.fd")
	store := storeOf(
		variable(0x3c, "BootOrder", "deleted"),
		variable(variableLeaves, "BootOrder", "old"),
		variable(variableAdded, "BootOrder", "\x00\x01"),
		variable(0x7f, "Half", "header only"),
		variable(variableAdded, "Über", ""),
		variable(variableAdded, "Moving", "new"),
		variable(variableLeaves, "Moving", "old"),
	)
	if err := os.WriteFile(path, store, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := ReadVariables(path)
	want := map[string]Variable{
		bootOrder: {bootOrder, 7, "\x00\x01"},
		strings.Replace(bootOrder, "BootOrder", "Über", 1):   {strings.Replace(bootOrder, "BootOrder", "Über", 1), 7, ""},
		strings.Replace(bootOrder, "BootOrder", "Moving", 1): {strings.Replace(bootOrder, "BootOrder", "Moving", 1), 7, "new"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
}

func TestReadVariablesRefuses(t *testing.T) {
	good := variable(variableAdded, "A", "x")
	change := func(at int, b byte) []byte {
		s := storeOf(good)
		s[at] = b
		return s
	}
	for name, data := range map[string][]byte{
		"empty":            nil,
		"short":            storeOf()[:60],
		"no volume":        change(40, 'x'),
		"header too small": change(48, 8),
		"header too large": change(49, 0xff),
		"other variables":  change(72, 0),
		"store too large":  change(72+18, 0xff),
		"not formatted":    change(72+20, 0xff),
		"unhealthy":        change(72+21, 0xff),
		"name too long":    change(72+storeHeader+39, 1),
		"data too long":    change(72+storeHeader+43, 1),
		"name of one byte": change(72+storeHeader+36, 1),
		"name unended":     change(72+storeHeader+variableHeader+2, 'x'),
		"rubbish behind":   storeOf(good, "rubbish"),
		"binary rubbish":   storeOf(good, "\xfe\xfe\x80"),
	} {
		if got, err := parseVariables(data); !errors.Is(err, ErrVariables) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, err := ReadVariables(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// TestTemplateOfFirmware: what distributions install for PCs is such a store. That
// for arm64 is empty until the firmware's first start.
func TestTemplateOfFirmware(t *testing.T) {
	firmware, err := FindFirmware(X8664)
	if err != nil {
		t.Skip(err)
	}
	if _, err := ReadVariables(firmware.Vars); err != nil {
		t.Error(err)
	}
}

func FuzzVariables(f *testing.F) {
	f.Add(storeOf(variable(variableAdded, "A", "x")))
	f.Fuzz(func(t *testing.T, data []byte) {
		vars, err := parseVariables(data)
		if err != nil && (vars != nil || !errors.Is(err, ErrVariables)) {
			t.Errorf("%v, %v", vars, err)
		}
		for name, v := range vars {
			if name != v.Name || len(name) < 37 || len(v.Data) > len(data) {
				t.Errorf("%q: %+v", name, v)
			}
		}
	})
}
