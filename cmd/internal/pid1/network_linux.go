package pid1

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/netup"
)

// localFallback is how long DHCP may stay silent in Local mode, where a network
// without it is nothing unusual. It is asked on while a link-local address is
// probed, so that about ten seconds pass before one is used.
const localFallback = 5 * time.Second

// NetworkConfig is the bring-up that a medium's configuration asks for.
func NetworkConfig(n bootcfg.Network, mode bootcfg.Mode) netup.Config {
	cfg := netup.Config{
		Off: n.Off, Timeout: n.Timeout, LinkLocal: n.LinkLocal, Private: mode == bootcfg.Private,
		RandomMAC: RandomMAC(n, mode),
	}
	if mode == bootcfg.Local {
		cfg.FallbackAfter = localFallback
	}
	for _, i := range n.Interfaces {
		cfg.Interfaces = append(cfg.Interfaces, netup.Interface(i))
	}
	return cfg
}

// RandomMAC reports whether the cards' own hardware addresses, which tell one
// machine from all others, are to stay unknown.
func RandomMAC(n bootcfg.Network, mode bootcfg.Mode) bool {
	return mode == bootcfg.Private && !n.KeepMAC
}

// LoadModule loads a driver by its name, for what no device asks for.
func (s *System) LoadModule(name string) error {
	if s.Modules == nil {
		return errors.New("this system carries no drivers")
	}
	return s.Modules.Load(name)
}

// wireNetwork is the form in which a configuration goes to the next system. It
// alone writes out what the types of package bootcfg hide.
type wireNetwork struct {
	bootcfg.Network
	Proxy string // in place of the hidden one
	WiFi  wireWiFi
}

// wireClaims are the claims in the same document. They are read apart: nothing
// about them must cost a person's configuration.
type wireClaims struct{ Claims []netup.Claim }

type wireWiFi struct {
	Country  string
	Networks []wireWiFiNetwork
}

type wireWiFiNetwork struct {
	SSID, Passphrase string
	Hidden           bool
}

// WriteNetwork writes the configuration for the next system: what a person set
// holds there too, and link-local addresses need not be waited for again. What it
// returns may hold passphrases. It goes from memory to memory, and no further.
func WriteNetwork(n bootcfg.Network, claims ...netup.Claim) []byte {
	wire := wireNetwork{Network: n, Proxy: string(n.Proxy), WiFi: wireWiFi{Country: n.WiFi.Country}}
	for _, w := range n.WiFi.Networks {
		wire.WiFi.Networks = append(wire.WiFi.Networks, wireWiFiNetwork{w.SSID, string(w.Passphrase), w.Hidden})
	}
	data, err := json.Marshal(struct {
		wireNetwork
		wireClaims
	}{wire, wireClaims{claims}})
	if err != nil {
		return nil // a Network always marshals; the next system goes by defaults
	}
	return data
}

// ReadClaims reads the claims in what WriteNetwork wrote; what cannot be read
// holds none.
func ReadClaims(data []byte) []netup.Claim {
	var wire wireClaims
	if json.Unmarshal(data, &wire) != nil {
		return nil
	}
	return wire.Claims
}

// ReadNetwork reads what WriteNetwork wrote. Its size is bounded by the file it
// is a part of. Members that it does not know are passed over: a newer medium
// must not cost an older system its address.
func ReadNetwork(data []byte) (bootcfg.Network, error) {
	var wire wireNetwork
	if err := json.Unmarshal(data, &wire); err != nil {
		// The cause may quote what was read.
		return bootcfg.Network{}, errors.New("the network configuration of the seed cannot be read")
	}
	n := wire.Network
	n.Proxy, n.WiFi = bootcfg.Proxy(wire.Proxy), bootcfg.WiFi{Country: wire.WiFi.Country}
	for _, w := range wire.WiFi.Networks {
		n.WiFi.Networks = append(n.WiFi.Networks, bootcfg.WiFiNetwork{SSID: w.SSID, Passphrase: bootcfg.Secret(w.Passphrase), Hidden: w.Hidden})
	}
	return n, nil
}
