//go:build unix

package vm

import (
	"context"
	"fmt"
)

// keyName is one key as QEMU names it (QKeyCode of qapi/ui.json), and whether
// Shift is held with it.
type keyName struct {
	code  string
	shift bool
}

// keyNames are the keys of a keyboard as they are in the United States, which is
// what a kernel takes any keyboard for until it is told otherwise.
func keyNames() map[byte]keyName {
	names := map[byte]keyName{'\r': {"ret", false}, '\n': {"ret", false}, '\t': {"tab", false}, 0x1b: {"esc", false}, 0x7f: {"backspace", false}, ' ': {"spc", false}}
	for b := byte('a'); b <= 'z'; b++ {
		names[b] = keyName{string(b), false}
		names[b-'a'+'A'] = keyName{string(b), true}
	}
	for i, shifted := range []byte(")!@#$%^&*(") {
		code := string(rune('0' + i))
		names['0'+byte(i)], names[shifted] = keyName{code, false}, keyName{code, true}
	}
	for _, k := range []struct {
		plain, shifted byte
		code           string
	}{
		{'-', '_', "minus"}, {'=', '+', "equal"}, {'[', '{', "bracket_left"}, {']', '}', "bracket_right"}, {'\\', '|', "backslash"},
		{';', ':', "semicolon"}, {'\'', '"', "apostrophe"}, {'`', '~', "grave_accent"}, {',', '<', "comma"}, {'.', '>', "dot"}, {'/', '?', "slash"},
	} {
		names[k.plain], names[k.shifted] = keyName{k.code, false}, keyName{k.code, true}
	}
	return names
}

// TypeKeys presses the keys of a text on the machine's keyboard, one after the
// other: printable ASCII, Enter (\r), Tab, Escape and Backspace (0x7f). The machine
// needs a keyboard (a PC has one). It returns when QEMU has taken the keys; the
// guest sees them over the next few milliseconds. A keyboard on USB holds 16 presses
// and releases for a guest that is busy, and drops what comes then.
func (m *Machine) TypeKeys(ctx context.Context, text string) error {
	names := keyNames()
	for i := range len(text) {
		name, ok := names[text[i]]
		if !ok {
			return fmt.Errorf("type on the keyboard: there is no key for %q", text[i])
		}
		if err := m.monitor.do(ctx, "send-key", chord(name)); err != nil {
			return fmt.Errorf("type on the keyboard: %w", err)
		}
	}
	return nil
}

// holdTime is how long a key is held, in milliseconds: a guest that is kept from
// running meanwhile must not take it for a key that is held down, and repeat it.
const holdTime = 2

type keyValue struct {
	Type string `json:"type"`
	Data string `json:"data"`
}

type sendKey struct {
	Keys     []keyValue `json:"keys"`
	HoldTime int        `json:"hold-time"`
}

func chord(k keyName) sendKey {
	s := sendKey{Keys: []keyValue{{"qcode", k.code}}, HoldTime: holdTime}
	if k.shift {
		s.Keys = append([]keyValue{{"qcode", "shift"}}, s.Keys...)
	}
	return s
}
