package bootcfg

import (
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	lineSource = "kernel command line"
	vlanNames  = "<1 to 4094>[,<interface or MAC>]"
	menuNames  = "0 to 3600, in seconds"
	maxMenu    = 3600
)

// line is what the kernel command line asks for. A nil field was not
// mentioned.
type line struct {
	mode      *string
	channel   *string
	cache     *bool
	noWrite   *bool
	providers []string
	gateways  []string
	network   *netWish
	vlan      *Interface
	vlanText  string // as it was written
	time      *timeWish
	proxy     *Proxy
	handover  *string
	overlay   *string
	tor       *bool
	medium    *string
	policy    *string // digest that policy.toml must have
	menu      *time.Duration
}

// timeWish is what phase.time asks for. Servers named after "off" are all
// that is asked.
type timeWish struct {
	off     bool
	servers []string
}

// lineKeys is the one table of keys. Setters are called in the order of
// the line, so the last one of several wins.
func lineKeys() map[string]lineKey {
	return map[string]lineKey{
		"phase.mode":     {"internet, local, private", (*line).setMode},
		"phase.channel":  {channelNames, (*line).setChannel},
		"phase.cache":    {switchNames, func(l *line, v string) error { return setSwitch(&l.cache, v) }},
		"phase.nowrite":  {switchNames, func(l *line, v string) error { return setSwitch(&l.noWrite, v) }},
		"phase.provider": {"an http or https URL, repeatable, at most 16", (*line).addProvider},
		"phase.gateway":  {"an http or https URL, repeatable, at most 8", (*line).addGateway},
		"phase.ip":       {"dhcp, off, or <address>/<length>,<gateway>,<dns>[,<interface or MAC>]", (*line).setIP},
		"phase.vlan":     {vlanNames, (*line).setVLAN},
		"phase.time":     {"off, or " + timeNames + ", repeatable, at most 4", (*line).addTime},
		"phase.proxy":    {proxyNames, (*line).setProxy},
		"phase.handover": {handoverNames, (*line).setHandover},
		"phase.overlay":  {overlayNames, (*line).setOverlay},
		"phase.tor":      {torNames, (*line).setTor},
		"phase.medium":   {mediumNames, (*line).setMedium},
		"phase.policy":   {digestNames, (*line).setPolicy},
		"phase.menu":     {menuNames, (*line).setMenu},
	}
}

type lineKey struct {
	allowed string
	set     func(*line, string) error
}

// parseLine reads the phase.* keys of a kernel command line and passes
// over all others.
func parseLine(cmdline string) (line, error) {
	var l line
	words, err := splitLine(cmdline)
	if err != nil {
		return l, &Error{Kind: BadLine, Source: lineSource, Err: err}
	}
	keys := lineKeys()
	for _, w := range words {
		if !isPhaseKey(w.key) {
			continue
		}
		key, known := keys[w.key]
		if !known {
			return l, &Error{Kind: UnknownKey, Source: lineSource, Key: w.key, Value: w.shown(), Allowed: keyNames()}
		}
		if err := key.set(&l, w.value); err != nil {
			return l, &Error{Kind: BadValue, Source: lineSource, Key: w.key, Value: w.shown(), Allowed: key.allowed, Err: err}
		}
	}
	if err := l.joinVLAN(); err != nil {
		return l, &Error{Kind: BadValue, Source: lineSource, Key: "phase.vlan", Value: l.vlanText, Err: err}
	}
	return l, nil
}

func keyNames() string {
	return "phase.mode, phase.channel, phase.cache, phase.nowrite, phase.provider, phase.gateway, phase.ip, phase.vlan, phase.time, phase.proxy, phase.handover, phase.overlay, phase.tor, phase.medium, phase.policy, phase.menu"
}

// isPhaseKey also claims "Phase.mode" and the like: passing over a
// mistyped private mode would be worse than refusing it.
func isPhaseKey(key string) bool {
	const prefix = "phase."
	return len(key) >= len(prefix) && strings.EqualFold(key[:len(prefix)], prefix)
}

// word is one parameter of the command line.
type word struct{ key, value string }

// shown is a value that was refused, without what may be secret.
func (w word) shown() string {
	if w.key == "phase.proxy" {
		return refusedProxy(w.value)
	}
	return withoutUser(w.value)
}

// splitLine takes a command line apart as the kernel does (next_arg in
// lib/cmdline.c): blanks separate, double quotes protect blanks, and a pair
// of quotes around the parameter or around the value is removed. Unlike the
// kernel it does not stop at "--": a mode given behind it would be lost.
func splitLine(s string) ([]word, error) {
	if len(s) > MaxCommandLine {
		return nil, errors.New("longer than 8 KiB")
	}
	if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
		return nil, errors.New("not plain text")
	}
	var words []word
	quoted, start := false, -1
	for i := 0; i <= len(s); i++ {
		end := i == len(s) || !quoted && isBlank(s[i])
		switch {
		case end && start >= 0:
			words = append(words, newWord(s[start:i]))
			start = -1
		case !end && start < 0:
			start = i
		}
		if i < len(s) && s[i] == '"' {
			quoted = !quoted
		}
	}
	return words, nil
}

func isBlank(b byte) bool { return b == ' ' || b >= '\t' && b <= '\r' }

// newWord splits one parameter at its first equals sign and removes the
// quotes the kernel removes.
func newWord(s string) word {
	if rest, ok := strings.CutPrefix(s, `"`); ok {
		s = strings.TrimSuffix(rest, `"`)
	}
	key, value, _ := strings.Cut(s, "=")
	if rest, ok := strings.CutPrefix(value, `"`); ok {
		value = strings.TrimSuffix(rest, `"`)
	}
	return word{key, value}
}

func (l *line) setMode(v string) error {
	l.mode = &v // an unknown name is not an error here: see Config.setMode
	return nil
}

func (l *line) setChannel(v string) error {
	l.channel = &v
	return checkChannel(v)
}

func (l *line) addProvider(v string) error {
	if len(l.providers) == MaxProviders {
		return errors.New("too many providers")
	}
	u, err := checkProvider(v)
	l.providers = append(l.providers, u)
	return err
}

func (l *line) addGateway(v string) error {
	if len(l.gateways) == MaxGateways {
		return errors.New("too many gateways")
	}
	u, err := checkProvider(v)
	l.gateways = append(l.gateways, u)
	return err
}

func (l *line) setIP(v string) error {
	wish, err := parseIP(v)
	l.network = &wish
	return err
}

func (l *line) setVLAN(v string) error {
	vlan, err := parseVLAN(v)
	l.vlan, l.vlanText = &vlan, v
	return err
}

// joinVLAN makes one wish of phase.vlan and phase.ip, whichever came first.
func (l *line) joinVLAN() error {
	if l.vlan == nil {
		return nil
	}
	if l.network == nil {
		l.network = &netWish{}
	}
	return l.network.addVLAN(*l.vlan)
}

func (l *line) addTime(v string) error {
	if v == "off" {
		l.time = &timeWish{off: true}
		return nil
	}
	if l.time == nil {
		l.time = &timeWish{}
	}
	if len(l.time.servers) == MaxTimeServers {
		return errors.New("too many time servers")
	}
	l.time.servers = append(l.time.servers, v)
	return checkTimeServer(v)
}

func (l *line) setProxy(v string) (err error) {
	l.proxy = new(Proxy)
	if v != "off" {
		*l.proxy, err = ParseProxy(v)
	}
	return err
}

func (l *line) setHandover(v string) error {
	l.handover = &v
	return checkHandover(v)
}

func (l *line) setOverlay(v string) error {
	l.overlay = &v
	return checkOverlay(v)
}

func (l *line) setTor(v string) error {
	on, err := parseTor(v)
	l.tor = &on
	return err
}

func (l *line) setMedium(v string) error {
	l.medium = &v
	return checkGUID(v)
}

func (l *line) setPolicy(v string) error {
	l.policy = &v
	return checkDigest(v)
}

func (l *line) setMenu(v string) error {
	seconds, err := strconv.ParseUint(v, 10, 16)
	if err != nil || seconds > maxMenu {
		return errors.New("not a number of seconds")
	}
	wait := time.Duration(seconds) * time.Second
	l.menu = &wait
	return nil
}

func setSwitch(dst **bool, v string) error {
	on, err := parseSwitch(v)
	*dst = &on
	return err
}

// apply puts the wishes of the line over those of the policy.
func (l line) apply(c *Config) {
	if l.mode != nil {
		c.setMode(*l.mode, lineSource+": phase.mode")
	}
	if l.channel != nil {
		c.Channel = *l.channel
	}
	if l.cache != nil {
		c.Cache = *l.cache
	}
	if l.noWrite != nil {
		c.NoWrite = *l.noWrite
	}
	if len(l.providers) > 0 {
		c.Providers = l.providers
	}
	if len(l.gateways) > 0 {
		c.Gateways = l.gateways
	}
	if l.handover != nil {
		c.Handover = *l.handover
	}
	if l.overlay != nil {
		c.Overlay = *l.overlay
	}
	if l.tor != nil {
		c.Tor.Allow = *l.tor
	}
	if l.medium != nil {
		c.Medium = *l.medium
	}
	if l.policy != nil {
		c.PolicyDigest = *l.policy
	}
	if l.menu != nil {
		c.Menu = *l.menu
	}
	if l.network != nil {
		c.Network.Off = l.network.off
		c.Network.Interfaces = l.network.interfaces
	}
	if l.time != nil {
		l.time.apply(&c.Time)
	}
	if l.proxy != nil {
		c.Network.Proxy = *l.proxy
	}
}

func (w timeWish) apply(t *Time) {
	if w.off {
		*t = Time{}
	}
	t.Servers = w.servers
}

// explain warns about wishes that the limits overruled.
func (l line) explain(c *Config) {
	if l.cache != nil && *l.cache && !c.Cache {
		c.warn("phase.cache is ignored: the cache is never used in private mode, nor when writing is switched off")
	}
	if l.noWrite != nil && !*l.noWrite && c.NoWrite {
		c.warn("phase.nowrite=false is ignored: nothing is ever written in private mode")
	}
}
