package bootcfg

import (
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestPageListsKeys: docs/network.md has every key of policy.toml and of
// bootstrap-nodes.toml in its tables, and no other.
func TestPageListsKeys(t *testing.T) {
	raw, err := os.ReadFile("../../docs/network.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(raw), "In `policy.toml`,")
	text, _, _ = strings.Cut(text, "A key that nobody knows")
	want := map[string]bool{}
	tomlKeys(reflect.TypeFor[policy](), "", want)
	tomlKeys(reflect.TypeFor[bootstrapFile](), "", want)
	for key := range want {
		if !strings.Contains(text, "`"+key+"`") {
			t.Errorf("the page lacks the key %s", key)
		}
	}
	// What is in the first column, or in the second of a row about tables.
	for _, m := range regexp.MustCompile("(?m)^\\| (`.+?`) \\| (.+) \\|$").FindAllStringSubmatch(text, -1) {
		keys := m[1]
		if strings.Contains(m[2], "tables, each with") {
			keys += regexp.MustCompile(`\([^)]*\)`).ReplaceAllString(m[2], "")
		}
		for _, k := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(keys, -1) {
			if !want[k[1]] {
				t.Errorf("the page speaks of %s; the keys are %v", k[1], slices.Sorted(maps.Keys(want)))
			}
		}
	}
}

// tomlKeys collects the keys of a type: those of tables with dots, those of
// arrays of tables by themselves.
func tomlKeys(of reflect.Type, prefix string, keys map[string]bool) {
	for i := range of.NumField() {
		f := of.Field(i)
		name := f.Tag.Get("toml")
		if name == "" {
			continue
		}
		kind := f.Type
		if kind.Kind() == reflect.Pointer {
			kind = kind.Elem()
		}
		switch {
		case kind.Kind() == reflect.Struct:
			tomlKeys(kind, prefix+name+".", keys)
		case kind.Kind() == reflect.Slice && kind.Elem().Kind() == reflect.Struct:
			if of != reflect.TypeFor[bootstrapFile]() {
				keys[prefix+name] = true
			}
			tomlKeys(kind.Elem(), "", keys)
		default:
			keys[prefix+name] = true
		}
	}
}
