package bootcfg

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
)

const (
	policySource = "policy.toml"
	proxyPolicy  = `"", or http://[<user>:<password>@]<host>:<port>`
)

// policy is policy.toml. Every key in it has an effect; a nil field was
// not mentioned.
type policy struct {
	Mode         *string        `toml:"mode"`
	Channel      *string        `toml:"channel"`
	CacheEnabled *bool          `toml:"cache_enabled"`
	MinVersion   *int64         `toml:"min_version"`
	Providers    []string       `toml:"providers"`
	Network      *networkPolicy `toml:"network"`
	Time         *timePolicy    `toml:"time"`
	Transfer     transferPolicy `toml:"transfer"`
	Handover     *string        `toml:"handover"`
	Overlay      *string        `toml:"overlay"`
	Tor          torPolicy      `toml:"tor"`

	interfaces []Interface
	wifi       WiFi
	proxy      *Proxy
}

type networkPolicy struct {
	TimeoutSeconds *int64          `toml:"timeout_seconds"`
	LinkLocal      *bool           `toml:"link_local"`
	Proxy          *string         `toml:"proxy"`
	PortalCheck    *string         `toml:"portal_check"`
	KeepMAC        *bool           `toml:"keep_mac"`
	Interfaces     []InterfaceSpec `toml:"interfaces"`
	WiFi           wifiPolicy      `toml:"wifi"`
}

type transferPolicy struct {
	Gateways []string `toml:"gateways"`
}

// refusal makes the error for a value that is not allowed.
type refusal func(key, value, allowed string, err error) error

type timePolicy struct {
	DHCP    *bool     `toml:"dhcp"`
	Servers *[]string `toml:"servers"`
	NTS     *[]string `toml:"nts"`
}

// parsePolicy reads and checks policy.toml; an absent or empty file asks
// for nothing.
func parsePolicy(raw []byte) (policy, error) {
	var p policy
	if err := decodeTOML(raw, &p); err != nil {
		return p, err.in(policySource, PolicySyntax, PolicyKey)
	}
	if err := p.check(); err != nil {
		return p, err
	}
	return p, nil
}

// check tests every value and normalises those with several spellings.
func (p *policy) check() error {
	bad := func(key, value, allowed string, err error) error {
		return &Error{Kind: PolicyValue, Source: policySource, Key: key, Value: withoutUser(value), Allowed: allowed, Err: err}
	}
	if p.Channel != nil {
		if err := checkChannel(*p.Channel); err != nil {
			return bad("channel", *p.Channel, channelNames, err)
		}
	}
	if p.Handover != nil {
		if err := checkHandover(*p.Handover); err != nil {
			return bad("handover", *p.Handover, handoverNames, err)
		}
	}
	if p.Overlay != nil {
		if err := checkOverlay(*p.Overlay); err != nil {
			return bad("overlay", *p.Overlay, overlayNames, err)
		}
	}
	if err := p.Tor.check(bad); err != nil {
		return err
	}
	if p.MinVersion != nil && *p.MinVersion < 0 {
		return bad("min_version", fmt.Sprint(*p.MinVersion), "0 and above", nil)
	}
	if err := checkURLs("providers", p.Providers, MaxProviders, bad); err != nil {
		return err
	}
	if err := checkURLs("transfer.gateways", p.Transfer.Gateways, MaxGateways, bad); err != nil {
		return err
	}
	if err := p.checkTime(bad); err != nil {
		return err
	}
	return p.checkNetwork(bad)
}

// checkURLs tests a list of base URLs, and normalises it.
func checkURLs(key string, urls []string, most int, bad refusal) error {
	if len(urls) > most {
		return bad(key, fmt.Sprint(len(urls), " entries"), fmt.Sprint("at most ", most), nil)
	}
	for i, u := range urls {
		var err error
		if urls[i], err = checkProvider(u); err != nil {
			return bad(key, u, "http and https URLs", err)
		}
	}
	return nil
}

func (p *policy) checkTime(bad refusal) error {
	if p.Time == nil {
		return nil
	}
	for _, list := range []struct {
		key     string
		servers *[]string
	}{{"time.servers", p.Time.Servers}, {"time.nts", p.Time.NTS}} {
		if list.servers == nil {
			continue
		}
		if n := len(*list.servers); n > MaxTimeServers {
			return bad(list.key, fmt.Sprint(n, " entries"), "at most 4", nil)
		}
		for _, s := range *list.servers {
			if err := checkTimeServer(s); err != nil {
				return bad(list.key, s, timeNames, err)
			}
		}
	}
	return nil
}

func (p *policy) checkNetwork(bad refusal) error {
	if p.Network == nil {
		return nil
	}
	if s := p.Network.TimeoutSeconds; s != nil && (*s < int64(MinTimeout/time.Second) || *s > int64(MaxTimeout/time.Second)) {
		return bad("network.timeout_seconds", fmt.Sprint(*s), "5 to 600", nil)
	}
	if err := p.checkWeb(bad); err != nil {
		return err
	}
	if n := len(p.Network.Interfaces); n > MaxInterfaces {
		return bad("network.interfaces", fmt.Sprint(n, " entries"), "at most 16", nil)
	}
	for n, spec := range p.Network.Interfaces {
		key := fmt.Sprintf("network.interfaces[%d]", n)
		i, err := spec.Check()
		if err != nil {
			return bad(key, spec.Name+spec.MAC, "see the comments in policy.toml", err)
		}
		p.interfaces = append(p.interfaces, i)
	}
	var err error
	p.wifi, err = p.Network.WiFi.check(bad)
	return err
}

func (p *policy) checkWeb(bad refusal) error {
	if s := p.Network.PortalCheck; s != nil {
		if err := checkPortal(*s); err != nil {
			return bad("network.portal_check", *s, `an http URL, or ""`, err)
		}
	}
	if s := p.Network.Proxy; s != nil {
		p.proxy = new(Proxy)
		if *s == "" {
			return nil
		}
		proxy, err := ParseProxy(*s)
		if err != nil {
			return bad("network.proxy", refusedProxy(*s), proxyPolicy, err)
		}
		p.proxy = &proxy
	}
	return nil
}

// apply puts the policy over the defaults.
func (p policy) apply(c *Config) {
	if p.Mode != nil {
		c.setMode(*p.Mode, policySource+": mode")
	}
	if p.Channel != nil {
		c.Channel = *p.Channel
	}
	if p.CacheEnabled != nil {
		c.Cache = *p.CacheEnabled
	}
	if p.MinVersion != nil {
		c.MinVersion = *p.MinVersion
	}
	if p.Handover != nil {
		c.Handover = *p.Handover
	}
	if p.Overlay != nil {
		c.Overlay = *p.Overlay
	}
	p.Tor.apply(&c.Tor)
	c.Providers = p.Providers
	c.Gateways = p.Transfer.Gateways
	p.applyTime(&c.Time)
	p.applyNetwork(&c.Network)
}

func (p policy) applyTime(t *Time) {
	if p.Time == nil {
		return
	}
	if p.Time.DHCP != nil {
		t.DHCP = *p.Time.DHCP
	}
	if p.Time.Servers != nil {
		t.Servers = *p.Time.Servers
	}
	if p.Time.NTS != nil {
		t.NTS = *p.Time.NTS
	}
}

func (p policy) applyNetwork(n *Network) {
	if p.Network == nil {
		return
	}
	if s := p.Network.TimeoutSeconds; s != nil {
		n.Timeout = time.Duration(*s) * time.Second
	}
	if p.Network.LinkLocal != nil {
		n.LinkLocal = *p.Network.LinkLocal
	}
	if p.Network.PortalCheck != nil {
		n.PortalCheck = *p.Network.PortalCheck
	}
	if p.Network.KeepMAC != nil {
		n.KeepMAC = *p.Network.KeepMAC
	}
	if p.proxy != nil {
		n.Proxy = *p.proxy
	}
	n.Interfaces, n.WiFi = p.interfaces, p.wifi
}

// tomlError is a decoding failure before it is known which file it is in.
type tomlError struct {
	unknown string // the unknown key, if that was it
	err     error
}

func (e *tomlError) in(source string, syntax, unknown Kind) *Error {
	if e.unknown != "" {
		return &Error{Kind: unknown, Source: source, Key: e.unknown}
	}
	return &Error{Kind: syntax, Source: source, Err: e.err}
}

// decodeTOML decodes strictly: bounded, no unknown keys, and no key in
// another case. The library itself takes "Mode" for "mode".
func decodeTOML(raw []byte, v any) *tomlError {
	if len(raw) > MaxFile {
		return &tomlError{err: errors.New("larger than 64 KiB")}
	}
	var tree map[string]any
	if toml.Unmarshal(raw, &tree) == nil {
		if key := foreignKey(tree); key != "" {
			return &tomlError{unknown: key}
		}
	}
	err := toml.NewDecoder(bytes.NewReader(raw)).DisallowUnknownFields().Decode(v)
	var missing *toml.StrictMissingError
	var syntax *toml.DecodeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &missing) && len(missing.Errors) > 0:
		return &tomlError{unknown: strings.Join(missing.Errors[0].Key(), ".")}
	case errors.As(err, &syntax):
		row, _ := syntax.Position()
		return &tomlError{err: fmt.Errorf("line %d: %s", row, strings.TrimPrefix(syntax.Error(), "toml: "))}
	}
	return &tomlError{err: err}
}

// foreignKey returns a key that cannot be one of ours, which consist of
// small letters and underscores; "" if there is none.
func foreignKey(v any) string {
	switch v := v.(type) {
	case map[string]any:
		for key, below := range v {
			if key == "" || strings.Trim(key, "abcdefghijklmnopqrstuvwxyz_") != "" {
				return strconv.Quote(key)
			}
			if k := foreignKey(below); k != "" {
				return key + "." + k
			}
		}
	case []any:
		for _, below := range v {
			if k := foreignKey(below); k != "" {
				return k
			}
		}
	}
	return ""
}
