package wifi

import (
	"encoding/hex"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxSSID is the longest name of a network, in bytes (IEEE 802.11-2020, 9.4.2.2).
const MaxSSID = 32

// A Network is one that can be joined. It prints without its passphrase.
type Network struct {
	SSID string // 1 to 32 bytes of anything
	// Passphrase of 8 to 63 printable ASCII characters, or the key itself as 64
	// hex digits (WPA2 only); "" for an open network.
	Passphrase string
	Hidden     bool // does not tell its name: it must be asked for by name, which others hear
}

// String names the network, and not its passphrase.
func (n Network) String() string { return Show(n.SSID) }

// GoString is String, so that no format shows the passphrase.
func (n Network) GoString() string { return n.String() }

// Format writes String whatever the verb.
func (n Network) Format(f fmt.State, _ rune) { fmt.Fprint(f, n.String()) }

// LogValue is String.
func (n Network) LogValue() slog.Value { return slog.StringValue(n.String()) }

// Check tells what is wrong with the name or the passphrase, without the
// passphrase. The error is an [*Error] with reason [BadNetwork].
func (n Network) Check() error {
	if len(n.SSID) == 0 || len(n.SSID) > MaxSSID {
		return &Error{Reason: BadNetwork, SSID: n.SSID, Detail: fmt.Sprintf("its name has %d bytes instead of 1 to %d", len(n.SSID), MaxSSID)}
	}
	switch l := len(n.Passphrase); {
	case l == 0, n.isKey():
		return nil
	case l < 8 || l > 63:
		return &Error{Reason: BadNetwork, SSID: n.SSID, Detail: fmt.Sprintf("the passphrase has %d characters instead of 8 to 63", l)}
	}
	if strings.ContainsFunc(n.Passphrase, func(r rune) bool { return r < ' ' || r > '~' }) {
		return &Error{Reason: BadNetwork, SSID: n.SSID, Detail: "the passphrase has characters that are not printable ASCII"}
	}
	return nil
}

// isKey tells a key of 64 hex digits from a passphrase, which has at most 63.
func (n Network) isKey() bool {
	_, err := hex.DecodeString(n.Passphrase)
	return len(n.Passphrase) == 64 && err == nil
}

// An AccessPoint is a network in the air: the strongest of those with its name
// and security.
type AccessPoint struct {
	SSID   string // its bytes, for [Network.SSID]; show it with [Show]
	Signal int    // dBm: -30 beside it, -90 hardly there
	// Security is "open", "WPA2", "WPA3", "WPA2/WPA3", or "unsupported: …" with
	// what it wants.
	Security string
}

// Usable tells whether Join can join it.
func (a AccessPoint) Usable() bool { return !strings.HasPrefix(a.Security, unsupported) }

const unsupported = "unsupported: "

// Show makes the name of a network fit for a screen: printable characters as
// they are, everything else, backslashes and odd spaces escaped as in Go.
func Show(ssid string) string {
	var b strings.Builder
	for _, r := range splitRunes(ssid) {
		c, size := utf8.DecodeRuneInString(r)
		switch {
		case c == utf8.RuneError && size <= 1:
			fmt.Fprintf(&b, `\x%02x`, r[0])
		case c == '\\':
			b.WriteString(`\\`)
		case c == ' ' || unicode.IsGraphic(c) && !unicode.IsSpace(c):
			b.WriteString(r)
		default:
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(c), "'"))
		}
	}
	return b.String()
}

// splitRunes cuts a string into its characters, and bytes that are none.
func splitRunes(s string) []string {
	var parts []string
	for len(s) > 0 {
		_, n := utf8.DecodeRuneInString(s)
		parts, s = append(parts, s[:n]), s[n:]
	}
	return parts
}

// Interfaces lists the wireless interfaces of this machine, sorted; sys is /sys.
func Interfaces(sys fs.FS) ([]string, error) {
	names, err := fs.Glob(sys, "class/net/*/phy80211")
	if err != nil {
		return nil, fmt.Errorf("wifi: %w", err)
	}
	for i, name := range names {
		names[i] = strings.Split(name, "/")[2]
	}
	slices.Sort(names)
	return names, nil
}
