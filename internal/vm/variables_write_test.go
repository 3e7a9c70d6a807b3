package vm

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

var stamp = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func TestWriteVariables(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vars.fd")
	other := strings.Replace(bootOrder, "BootOrder", "Other", 1)
	mok := "MokList-605dab50-e046-4300-abb6-3dd810dd8b23"
	key := strings.Replace(bootOrder, "BootOrder", "PK", 1)
	if err := os.WriteFile(path, storeOf(variable(variableAdded, "BootOrder", "old"), variable(variableLeaves, "Other", "kept")), 0o600); err != nil {
		t.Fatal(err)
	}
	err := WriteVariables(path, stamp,
		Variable{bootOrder, 7, "new"}, Variable{mok, 3, "a list\x00\x01"}, Variable{key, 0x27, "a key"}, Variable{bootOrder, 7, "newest"})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]Variable{bootOrder: {bootOrder, 7, "newest"}, other: {other, 7, "kept"}, mok: {mok, 3, "a list\x00\x01"}, key: {key, 0x27, "a key"}}
	if got, err := ReadVariables(path); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	data, _ := os.ReadFile(path)
	if !strings.Contains(string(data), "\xea\x07\x01\x02\x03\x04\x05\x00") {
		t.Error("the key has no time stamp")
	}
	if err := WriteVariables(path, stamp, Variable{Name: mok}, Variable{Name: bootOrder}); err != nil {
		t.Fatal(err)
	}
	delete(want, mok)
	delete(want, bootOrder)
	if got, err := ReadVariables(path); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("after deletion: %v, %v; want %v", got, err, want)
	}
}

func TestWriteVariablesRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "vars.fd")
	before := storeOf(variable(variableAdded, "A", "x"))
	if err := os.WriteFile(path, before, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]Variable{
		"no GUID":        {"BootOrder", 7, "x"},
		"no name":        {bootOrder[len("BootOrder"):], 7, "x"},
		"short GUID":     {bootOrder[:len(bootOrder)-1], 7, "x"},
		"other dashes":   {strings.Replace(bootOrder, "8be4df61-", "8be4-df61", 1), 7, "x"},
		"upper case":     {strings.ToUpper(bootOrder), 7, "x"},
		"zero in a name": {"\x00" + bootOrder, 7, "x"},
		"long name":      {strings.Repeat("x", 300) + bootOrder, 7, "x"},
	} {
		if err := WriteVariables(path, stamp, v); err == nil {
			t.Errorf("%s was written", name)
		}
	}
	if err := WriteVariables(path, stamp, Variable{bootOrder, 7, strings.Repeat("x", 4096)}); !errors.Is(err, ErrVariableRoom) {
		t.Errorf("more than there is room for: %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("a refusal has changed the file: %v", err)
	}
	if err := WriteVariables(filepath.Join(dir, "none"), stamp); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// TestWriteToTemplates: what distributions install, with and without keys.
func TestWriteToTemplates(t *testing.T) {
	firmware, err := FindFirmware(X8664)
	if err != nil {
		t.Skip(err)
	}
	secure, err := FindSecureFirmware(os.DirFS("/"), X8664)
	if err != nil {
		t.Skip(err)
	}
	for _, template := range []string{firmware.Vars, secure.Vars} {
		path := filepath.Join(t.TempDir(), "vars.fd")
		if err := copyVars(path, template); err != nil {
			t.Fatal(err)
		}
		want, err := ReadVariables(path)
		if err != nil {
			t.Fatal(err)
		}
		v := Variable{bootOrder, 7, "\x01\x00"}
		want[bootOrder] = v
		if err := WriteVariables(path, stamp, v); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadVariables(path); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v; other variables changed", template, err)
		}
		before, _ := os.Stat(template)
		if after, err := os.Stat(path); err != nil || after.Size() != before.Size() {
			t.Errorf("%s: another size: %v", template, err)
		}
	}
}

func FuzzWriteVariables(f *testing.F) {
	f.Add(storeOf(variable(variableAdded, "A", "x")), "BootOrder", "data")
	f.Fuzz(func(t *testing.T, store []byte, name, content string) {
		if _, err := parseVariables(store); err != nil || content == "" {
			return
		}
		v := Variable{name + bootOrder[len("BootOrder"):], 7, content}
		if setVariable(store, stamp, v) != nil {
			return
		}
		if got, err := parseVariables(store); err != nil || got[v.Name] != v {
			t.Fatalf("%v, %v", got[v.Name], err)
		}
	})
}
