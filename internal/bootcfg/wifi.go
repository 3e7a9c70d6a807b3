package bootcfg

import (
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// WiFi is the part of Network for wireless interfaces. A system without the
// programs that these need passes over it.
type WiFi struct {
	// Country is where the machine stands (ISO 3166, two capital letters),
	// which decides the channels that may be used; "": the few that are allowed
	// everywhere.
	Country string
	// Networks are those that may be joined, the preferred first.
	Networks []WiFiNetwork
}

// WiFiNetwork is a wireless network and what it takes to join it.
type WiFiNetwork struct {
	// SSID is its name, 1 to 32 bytes.
	SSID string
	// Passphrase is 8 to 63 characters of ASCII, or the key itself as 64
	// hexadecimal digits; "" for an open network.
	Passphrase Secret
	// Hidden networks do not tell their name and must be asked for by it, which
	// tells it to everybody in reach.
	Hidden bool
}

// Check reports what is wrong with n, without the passphrase.
func (n WiFiNetwork) Check() error {
	if len(n.SSID) < 1 || len(n.SSID) > 32 {
		return fmt.Errorf("the name of a wireless network has 1 to 32 bytes, not %d", len(n.SSID))
	}
	if !utf8.ValidString(n.SSID) {
		return errors.New("the name of the wireless network is not plain text")
	}
	for _, r := range n.SSID {
		if unicode.IsControl(r) {
			return errors.New("the name of the wireless network is not plain text")
		}
	}
	return checkPassphrase(string(n.Passphrase))
}

// checkPassphrase follows IEEE 802.11, annex J.4.
func checkPassphrase(s string) error {
	if s == "" || len(s) == 64 && isHex(s) {
		return nil
	}
	if len(s) < 8 || len(s) > 63 {
		return errors.New("a passphrase has 8 to 63 characters, or is a key of 64 hexadecimal digits")
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return errors.New("a passphrase consists of printable ASCII")
		}
	}
	return nil
}

func isHex(s string) bool {
	for _, r := range s {
		if !(r >= '0' && r <= '9' || r >= 'a' && r <= 'f' || r >= 'A' && r <= 'F') {
			return false
		}
	}
	return true
}

// wifiPolicy is [network.wifi].
type wifiPolicy struct {
	Country  *string           `toml:"country"`
	Networks []wifiNetworkSpec `toml:"networks"`
}

type wifiNetworkSpec struct {
	SSID       string `toml:"ssid"`
	Passphrase string `toml:"passphrase"`
	Hidden     bool   `toml:"hidden"`
}

// check turns the spelling into values.
func (p wifiPolicy) check(bad refusal) (w WiFi, err error) {
	if p.Country != nil {
		if w.Country = *p.Country; !isCountry(w.Country) {
			return w, bad("network.wifi.country", w.Country, `two capital letters, or ""`, nil)
		}
	}
	if n := len(p.Networks); n > MaxWiFiNetworks {
		return w, bad("network.wifi.networks", fmt.Sprint(n, " entries"), "at most 8", nil)
	}
	for i, spec := range p.Networks {
		n := WiFiNetwork{SSID: spec.SSID, Passphrase: Secret(spec.Passphrase), Hidden: spec.Hidden}
		if err := n.Check(); err != nil {
			return w, bad(fmt.Sprintf("network.wifi.networks[%d]", i), n.SSID, "see the comments in policy.toml", err)
		}
		w.Networks = append(w.Networks, n)
	}
	return w, nil
}

func isCountry(s string) bool {
	return s == "" || len(s) == 2 && s[0] >= 'A' && s[0] <= 'Z' && s[1] >= 'A' && s[1] <= 'Z'
}
