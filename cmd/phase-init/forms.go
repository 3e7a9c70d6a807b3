package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/dialog"
	"github.com/phasebased/phase/internal/failure"
	"github.com/phasebased/phase/internal/term"
	"github.com/phasebased/phase/internal/wifi"
)

// forms are the questions by which a person changes how this boot goes. They
// take nothing that the kernel's command line or policy.toml would refuse, and
// change nothing: each returns what was asked for. Escape leaves a form, with
// dialog.ErrLeft.
type forms struct {
	ask     *dialog.Asker
	console *term.Console
	mode    bootcfg.Mode
	country string // where the Wi-Fi card may use what is allowed there; "": nobody said
}

// provider asks for the base URL of a provider.
func (f forms) provider(ctx context.Context) (base string, err error) {
	f.console.Title("A provider of your own (Escape leaves)")
	text := "URL, such as http://mirror.example"
	if !f.mode.MayUseWAN() {
		text = "Local URL, such as http://10.0.0.5:8080"
	}
	_, err = f.ask.Ask(ctx, dialog.Question{Text: text, Max: 512, Check: func(s string) (err error) {
		base, err = bootcfg.ParseProvider(s, f.mode)
		return err
	}})
	return base, err
}

// card is a network interface as a person chooses it.
type card struct {
	Name, MAC string
	State     string // in words
	Wireless  bool
}

// network asks how one of the cards is to be configured, and for a proxy. It
// returns now with what was changed. In randomMAC the cards are known by name,
// as their addresses hold for one boot.
func (f forms) network(ctx context.Context, now bootcfg.Network, cards []card, randomMAC bool) (bootcfg.Network, error) {
	f.console.Title("Network settings (Escape leaves)")
	if len(cards) == 0 {
		f.console.Line("There is no network interface to configure.")
		return now, dialog.ErrLeft
	}
	chosen, err := f.card(ctx, cards)
	if err != nil {
		return now, err
	}
	set, err := f.address(ctx, entryOf(now.Interfaces, chosen))
	if err != nil {
		return now, err
	}
	if set.MAC = chosen.MAC; randomMAC || chosen.MAC == "" {
		set.Name, set.MAC = chosen.Name, ""
	}
	proxy, err := f.proxy(ctx, now.Proxy)
	if err != nil {
		return now, err
	}
	now.Off, now.Proxy = false, proxy
	now.Interfaces = replaceEntry(now.Interfaces, chosen, set)
	return now, nil
}

// card asks for one of the cards.
func (f forms) card(ctx context.Context, cards []card) (card, error) {
	var list []term.Pair
	for i, c := range cards {
		list = append(list, term.Pair{Key: fmt.Sprintf("%2d  %s", i+1, c.Name), Value: c.MAC + "  " + c.State})
	}
	f.console.Pairs(list)
	n, err := f.number(ctx, "Interface", "1", len(cards))
	if err != nil {
		return card{}, err
	}
	return cards[n-1], nil
}

// number asks for one of a list.
func (f forms) number(ctx context.Context, text, usual string, most int) (n int, err error) {
	_, err = f.ask.Ask(ctx, dialog.Question{Text: text, Default: usual, Check: func(s string) (err error) {
		if n, err = strconv.Atoi(s); err != nil || n < 1 || n > most {
			return fmt.Errorf("type a number from 1 to %d", most)
		}
		return nil
	}})
	return n, err
}

// address asks for how an interface gets its address. The answers so far are the
// defaults.
func (f forms) address(ctx context.Context, now bootcfg.Interface) (bootcfg.Interface, error) {
	usual := "d"
	switch {
	case now.Off:
		usual = "o"
	case now.Address.IsValid():
		usual = "s"
	}
	how, err := f.ask.Ask(ctx, dialog.Question{
		Text: "Address (d DHCP, s static, o unused)", Default: usual,
		Check: oneOf("d", "s", "o"),
	})
	switch {
	case err != nil:
		return bootcfg.Interface{}, err
	case how == "o":
		return bootcfg.Interface{Off: true}, nil
	}
	var spec bootcfg.InterfaceSpec
	if how == "s" {
		if spec, err = f.static(ctx, now); err != nil {
			return bootcfg.Interface{}, err
		}
	}
	return f.vlan(ctx, spec, now.VLAN)
}

// static asks for an address and what goes with it.
func (f forms) static(ctx context.Context, now bootcfg.Interface) (spec bootcfg.InterfaceSpec, err error) {
	text := func(a interface {
		IsValid() bool
		String() string
	}) string {
		if a.IsValid() {
			return a.String()
		}
		return ""
	}
	var dns []string
	for _, a := range now.DNS {
		dns = append(dns, a.String())
	}
	for _, q := range []struct {
		text, usual string
		set         func(string)
	}{
		{"Address, such as 192.168.1.10/24", text(now.Address), func(s string) { spec.Address = s }},
		{"Gateway (- for none)", orDash(text(now.Gateway)), func(s string) { spec.Gateway = noDash(s) }},
		{"Name servers, up to 3 (- for none)", orDash(strings.Join(dns, " ")), func(s string) {
			spec.DNS = strings.FieldsFunc(noDash(s), func(r rune) bool { return r == ' ' || r == ',' })
		}},
	} {
		_, err := f.ask.Ask(ctx, dialog.Question{Text: q.text, Default: q.usual, Check: func(s string) error {
			q.set(s)
			spec.Method = "static"
			_, err := spec.Check()
			return err
		}})
		if err != nil {
			return spec, err
		}
	}
	return spec, nil
}

func (f forms) vlan(ctx context.Context, spec bootcfg.InterfaceSpec, now int) (set bootcfg.Interface, err error) {
	usual := "-"
	if now > 0 {
		usual = strconv.Itoa(now)
	}
	_, err = f.ask.Ask(ctx, dialog.Question{Text: "VLAN tag (- for none)", Default: usual, Check: func(s string) (err error) {
		spec.VLAN = nil
		if s != "-" {
			tag, err := strconv.ParseInt(s, 10, 64)
			if err != nil {
				return fmt.Errorf("a VLAN is a number from %d to %d", bootcfg.MinVLAN, bootcfg.MaxVLAN)
			}
			spec.VLAN = &tag
		}
		set, err = spec.Check()
		return err
	}})
	return set, err
}

// proxy asks for a proxy, and apart from it for what it wants to be told, so that
// a password is never on the screen.
func (f forms) proxy(ctx context.Context, now bootcfg.Proxy) (bootcfg.Proxy, error) {
	if !f.mode.MayUseWAN() {
		return "", nil
	}
	usual := "-"
	if now != "" {
		usual = now.String()
	}
	set := now
	answer, err := f.ask.Ask(ctx, dialog.Question{Text: "Proxy, http://host:port (- for none)", Default: usual, Max: 512,
		Check: func(s string) (err error) {
			set = now
			if s != usual || s == "-" {
				set, err = parseProxy(s)
			}
			return err
		}})
	if err != nil || answer == usual || set == "" || set.String() != string(set) {
		return set, err
	}
	user, err := f.ask.Ask(ctx, dialog.Question{Text: "Its user name (- for none)", Default: "-"})
	if err != nil || user == "-" {
		return set, err
	}
	plain := set
	_, err = f.ask.Ask(ctx, dialog.Question{Text: "Its password", Secret: true, Check: func(s string) (err error) {
		u := url.URL{Scheme: "http", User: url.UserPassword(user, s), Host: strings.TrimPrefix(string(plain), "http://")}
		set, err = bootcfg.ParseProxy(u.String())
		return err
	}})
	return set, err
}

func parseProxy(s string) (bootcfg.Proxy, error) {
	if s == "-" {
		return "", nil
	}
	return bootcfg.ParseProxy(s)
}

// radio is what drives a wireless interface.
type radio interface {
	Scan(context.Context) ([]wifi.AccessPoint, error)
	Join(context.Context, wifi.Network) error
}

// maxSeen is how many networks in the air are listed: a screen has 25 lines.
const maxSeen = 18

// errAgain asks for another look at what is in the air.
var errAgain = errors.New("look again")

// wifi asks for a network that can be joined, and joins it.
func (f forms) wifi(ctx context.Context, name string, r radio) (bootcfg.WiFiNetwork, error) {
	f.console.Title("Wi-Fi on " + name + " (Escape leaves)")
	for {
		network, err := f.lookAround(ctx, r)
		if err == nil {
			err = f.join(ctx, r, &network)
		}
		if !errors.Is(err, errAgain) {
			return network, err
		}
	}
}

// lookAround lists what is in the air and asks for one of it.
func (f forms) lookAround(ctx context.Context, r radio) (network bootcfg.WiFiNetwork, err error) {
	f.console.Line("Looking for networks ...")
	seen, err := r.Scan(ctx)
	if ctx.Err() != nil {
		return network, context.Cause(ctx)
	}
	if err != nil {
		f.say(err)
	}
	var list []term.Pair
	for i, a := range seen[:min(len(seen), maxSeen)] {
		list = append(list, term.Pair{Key: fmt.Sprintf("%2d  %s", i+1, wifi.Show(a.SSID)), Value: fmt.Sprintf("%d dBm  %s", a.Signal, a.Security)})
	}
	f.console.Pairs(list)
	text := "Number or name (Enter: look again)"
	if len(seen) == 0 {
		f.console.Line("No network is in sight.")
		if f.country == "" { // the form does not ask: what is free everywhere is never wrong
			f.console.Line("Only channels that are free everywhere were looked at; set country in policy.toml to use all that are allowed where this machine stands.")
		}
		text = "Name (Enter: look again)"
	}
	var chosen *wifi.AccessPoint
	answer, err := f.ask.Ask(ctx, dialog.Question{Text: text, Max: wifi.MaxSSID, Check: func(s string) error {
		if s == "" {
			return nil
		}
		chosen, network = pick(seen, s)
		if chosen != nil && !chosen.Usable() {
			return fmt.Errorf("this image cannot join it (%s)", chosen.Security)
		}
		return network.Check()
	}})
	switch {
	case err != nil:
		return network, err
	case answer == "":
		return network, errAgain
	case chosen != nil && chosen.Security == "open":
		return network, nil
	}
	return network, f.passphrase(ctx, &network, chosen == nil)
}

// pick is the network that is meant by a number of the list, or by a name, also of
// one for which the list had no room. One that is not in sight may be hidden.
func pick(seen []wifi.AccessPoint, answer string) (*wifi.AccessPoint, bootcfg.WiFiNetwork) {
	if n, err := strconv.Atoi(answer); err == nil && n >= 1 && n <= min(len(seen), maxSeen) {
		return &seen[n-1], bootcfg.WiFiNetwork{SSID: seen[n-1].SSID}
	}
	i := slices.IndexFunc(seen, func(a wifi.AccessPoint) bool { return a.SSID == answer })
	if i >= 0 {
		return &seen[i], bootcfg.WiFiNetwork{SSID: answer}
	}
	return nil, bootcfg.WiFiNetwork{SSID: answer, Hidden: true}
}

// passphrase asks for what a network wants. One that is not in sight may be open.
func (f forms) passphrase(ctx context.Context, network *bootcfg.WiFiNetwork, mayBeOpen bool) error {
	text := "Passphrase"
	if mayBeOpen {
		text = "Passphrase (empty: an open network)"
	}
	_, err := f.ask.Ask(ctx, dialog.Question{Text: text, Secret: true, Check: func(s string) error {
		network.Passphrase = bootcfg.Secret(s)
		if s == "" && !mayBeOpen {
			return errors.New("this network wants a passphrase")
		}
		return network.Check()
	}})
	return err
}

// join joins the network, and asks for the passphrase as long as it is wrong.
func (f forms) join(ctx context.Context, r radio, network *bootcfg.WiFiNetwork) error {
	for {
		f.console.Linef("Joining %s; this takes up to 30 s ...", wifi.Show(network.SSID))
		err := r.Join(ctx, wifi.Network{SSID: network.SSID, Passphrase: string(network.Passphrase), Hidden: network.Hidden})
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var failed *wifi.Error
		switch {
		case err == nil:
			f.console.Linef("Joined %s.", wifi.Show(network.SSID))
			return nil
		case errors.As(err, &failed) && failed.Reason == wifi.WrongPassphrase:
			f.say(err)
			if err := f.passphrase(ctx, network, network.Hidden); err != nil {
				return err
			}
		default:
			f.say(err)
			return errAgain
		}
	}
}

// say shows a failure and what can be done about it.
func (f forms) say(err error) {
	f.console.Line(err.Error())
	if hint := failure.Hint(err); hint != "" {
		f.console.Line(hint)
	}
}

// matches reports whether an entry is about the card. One that names none is
// about the first with a cable in, which may be this one.
func matches(i bootcfg.Interface, c card) bool {
	return (i.Name == "" || i.Name == c.Name) && (i.MAC == "" || i.MAC == c.MAC)
}

// entryOf is what was said about a card so far.
func entryOf(entries []bootcfg.Interface, c card) bootcfg.Interface {
	for _, named := range []bool{true, false} {
		for _, i := range entries {
			if matches(i, c) && (i.Name != "" || i.MAC != "") == named {
				return i
			}
		}
	}
	return bootcfg.Interface{}
}

// replaceEntry puts an entry in the place of all that may be about the card.
func replaceEntry(entries []bootcfg.Interface, c card, set bootcfg.Interface) []bootcfg.Interface {
	var kept []bootcfg.Interface
	for _, i := range entries {
		if !matches(i, c) {
			kept = append(kept, i)
		}
	}
	if !set.Off && set.VLAN == 0 && !set.Address.IsValid() {
		return kept // what is said of none uses DHCP
	}
	return append([]bootcfg.Interface{set}, kept[:min(len(kept), bootcfg.MaxInterfaces-1)]...)
}

// oneOf accepts these answers.
func oneOf(answers ...string) func(string) error {
	return func(s string) error {
		if !slices.Contains(answers, s) {
			return fmt.Errorf("type one of %s", strings.Join(answers, ", "))
		}
		return nil
	}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func noDash(s string) string {
	if s == "-" {
		return ""
	}
	return s
}
