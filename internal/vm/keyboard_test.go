//go:build unix

package vm

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
)

func TestEveryCharacterHasAKey(t *testing.T) {
	names := keyNames()
	seen := map[keyName]byte{}
	for b := byte(' '); b < 0x7f; b++ {
		name, ok := names[b]
		if !ok {
			t.Errorf("no key for %q", b)
		}
		if other, twice := seen[name]; twice {
			t.Errorf("%q and %q are one key", b, other)
		}
		seen[name] = b
	}
	data, err := json.Marshal(chord(names['?']))
	if want := `{"keys":[{"type":"qcode","data":"shift"},{"type":"qcode","data":"slash"}],"hold-time":2}`; err != nil || string(data) != want {
		t.Errorf("%s, %v", data, err)
	}
	if err := (&Machine{}).TypeKeys(context.Background(), "\u00e9"); err == nil || !strings.Contains(err.Error(), "no key") {
		t.Errorf("a character without a key: %v", err)
	}
}
