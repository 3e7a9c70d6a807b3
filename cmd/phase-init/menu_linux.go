package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/phasebased/phase/cmd/internal/pid1"
	"github.com/phasebased/phase/internal/boot"
	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/dialog"
	"github.com/phasebased/phase/internal/netup"
	"github.com/phasebased/phase/internal/sysinit"
)

// wish is what a person asked for while the network was waited for.
type wish struct{ key sysinit.Key }

// turnLimit is how long what comes from the keyboards may hold up the next try: a
// line that sends noise for ever looks like a person who never ends. The longest
// form takes somebody slow a quarter of it.
const turnLimit = 20 * time.Minute

func (w *wish) Error() string { return "a key was pressed" }

// A choice is a key of the menu.
type choice struct {
	key  byte
	text string           // in the line of keys
	when func(*seed) bool // whether it does anything now; nil: always
	// do is what it does. Unless it fails, the boot is tried again, or not.
	do    func(*seed, context.Context, forms, *hand) error
	again bool
	// ends is set where nothing comes afterwards: what runs is not cut short for it.
	ends bool
}

// menu is all there is, in the order in which it is named.
func menu() []choice {
	return []choice{
		{key: 'r', text: "try again", do: (*seed).tryAgain, again: true},
		{key: 'm', text: "another mode", when: (*seed).configured, do: (*seed).askMode, again: true},
		{key: 'u', text: "type a provider's URL", when: (*seed).configured, do: (*seed).askProvider, again: true},
		{key: 'n', text: "network settings", when: (*seed).configured, do: (*seed).askNetwork, again: true},
		{key: 'w', text: "choose a Wi-Fi network", when: (*seed).hasRadio, do: (*seed).askWiFi, again: true},
		{key: 'l', text: "logs", do: (*seed).showLogs},
		{key: 'd', text: "save diagnostics", do: (*seed).askDiagnostics},
		{key: 's', text: "shell", when: (*seed).hasShell, do: (*seed).openShell},
		{key: 'b', text: "reboot", do: (*seed).restart, ends: true},
		{key: 'p', text: "power off", do: (*seed).powerOff, ends: true},
	}
}

// chosen is what a key stands for now.
func (s *seed) chosen(key byte) (choice, bool) {
	i := slices.IndexFunc(menu(), func(c choice) bool { return c.key == dialog.Lower(key) && (c.when == nil || c.when(s)) })
	if i < 0 {
		return choice{}, false
	}
	return menu()[i], true
}

func (s *seed) configured() bool { return s.config != nil }

func (s *seed) hasRadio() bool { return s.configured() && len(s.radio().Interfaces()) > 0 }

// keyLine names the keys that do something.
func (s *seed) keyLine() string {
	var keys []string
	for _, c := range menu() {
		if c.when == nil || c.when(s) {
			keys = append(keys, fmt.Sprintf("%c %s", c.key, c.text))
		}
	}
	return "Keys: " + strings.Join(keys, ", ") + "."
}

// hand is what reads the keys of all consoles. It lets go of them while a program
// reads for itself.
type hand struct {
	read func() (<-chan sysinit.Key, func())
	keys <-chan sysinit.Key
	end  func()
}

// hand begins to read what is typed. The caller lets go.
func (s *seed) hand(ctx context.Context) *hand {
	h := &hand{read: func() (<-chan sysinit.Key, func()) { return dialog.Read(ctx, s.system.Consoles(), s.system.Go) }}
	h.take()
	return h
}

func (h *hand) take() { h.keys, h.end = h.read() }

func (h *hand) letGo() {
	if h.end != nil {
		h.end()
	}
	h.keys, h.end = nil, nil
}

// listen takes keys while the network is waited for, once that takes so long
// that a person was told; it ends with ctx, or with a wish that ends the walk.
func (s *seed) listen(ctx context.Context) {
	select {
	case <-s.reminded:
	case <-ctx.Done():
		return
	}
	if len(s.cards()) == 0 {
		for _, line := range s.driverless() {
			s.system.Console.Line(line)
		}
	}
	s.system.Console.Text(s.keyLine())
	h := s.hand(ctx)
	defer h.letGo()
	for {
		select {
		case key := <-h.keys:
			if !dialog.Alone(ctx, h.keys, key) {
				continue
			}
			c, known := s.chosen(key.Byte)
			if !known {
				continue
			}
			if !c.ends {
				s.interrupt(&wish{key})
				return
			}
			s.change(ctx, c, key, h)
		case <-ctx.Done():
			return
		}
	}
}

// grant does what was asked for while the network was waited for. Whoever only
// looked at something gets the menu.
func (s *seed) grant(ctx context.Context, w *wish) {
	s.observer.failure(w) // ends the stages that it cut short
	c, known := s.chosen(w.key.Byte)
	if !known {
		return
	}
	h := s.hand(ctx)
	defer h.letGo()
	turn, cancel := s.turn(ctx)
	s.change(turn, c, w.key, h)
	cancel()
	if !c.again {
		s.system.Console.Text(s.keyLine())
		s.wait(ctx, h)
	}
}

// turn bounds what comes from the keyboards.
func (s *seed) turn(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, turnLimit, dialog.ErrLeft)
}

// wait ends with a key that leads to another try, or by itself.
func (s *seed) wait(ctx context.Context, h *hand) {
	for s.sit(ctx, h) {
	}
}

// sit is wait, up to turnLimit. It reports true when a shell was used: how long a
// person sits there is not limited, and what follows begins anew.
func (s *seed) sit(ctx context.Context, h *hand) (anew bool) {
	turn, cancel := s.turn(ctx)
	defer cancel()
	again := time.NewTimer(retryAfter + rand.N(retrySpread))
	defer again.Stop()
	for {
		select {
		case key := <-h.keys:
			if !dialog.Alone(turn, h.keys, key) {
				continue
			}
			c, known := s.chosen(key.Byte)
			if !known {
				continue
			}
			again.Stop()
			if s.change(turn, c, key, h) && c.again {
				return false
			}
			s.system.Console.Text(s.keyLine())
			if c.key == keyShell {
				return true
			}
			again.Reset(retryAfter + rand.N(retrySpread))
		case <-again.C:
			return false
		case <-turn.Done():
			return false
		}
	}
}

// change does what was chosen. It reports false if that was left, or failed.
func (s *seed) change(ctx context.Context, c choice, key sysinit.Key, h *hand) bool {
	f := forms{ask: &dialog.Asker{Keys: h.keys, Console: s.system.Console, From: key.Echo}, console: s.system.Console}
	if s.config != nil {
		f.mode, f.country = s.config.Mode, s.config.Network.WiFi.Country
	}
	err := c.do(s, ctx, f, h)
	if err != nil && !errors.Is(err, dialog.ErrLeft) {
		f.say(err)
	}
	return err == nil
}

func (s *seed) tryAgain(context.Context, forms, *hand) error {
	s.restartNetwork()
	return nil
}

func (s *seed) restart(context.Context, forms, *hand) error { return sysinit.Reboot(syncLimit) }

func (s *seed) powerOff(context.Context, forms, *hand) error { return sysinit.PowerOff(syncLimit) }

// askProvider puts a provider before all others, for this boot.
func (s *seed) askProvider(ctx context.Context, f forms, _ *hand) error {
	base, err := f.provider(ctx)
	if err == nil {
		others := slices.DeleteFunc(slices.Clone(s.config.Providers), func(p string) bool { return p == base })
		s.config.Providers = append([]string{base}, others[:min(len(others), bootcfg.MaxProviders-1)]...)
	}
	return err
}

// askNetwork changes the settings and begins the bring-up anew.
func (s *seed) askNetwork(ctx context.Context, f forms, _ *hand) error {
	network, err := f.network(ctx, s.config.Network, s.cards(), s.randomMAC())
	if err != nil {
		return err
	}
	s.config.Network = network
	s.restartNetwork()
	return s.setClient()
}

// askWiFi joins a network and keeps it, for the next system as well.
func (s *seed) askWiFi(ctx context.Context, f forms, _ *hand) error {
	names := s.radio().Interfaces()
	var cards []card
	for _, c := range s.cards() {
		if slices.Contains(names, c.Name) {
			cards = append(cards, c)
		}
	}
	if len(cards) == 0 {
		return errors.New("the wireless interface is gone")
	}
	chosen := cards[0]
	if len(cards) > 1 {
		var err error
		if chosen, err = f.card(ctx, cards); err != nil {
			return err
		}
	}
	s.networkManager(ctx) // sets the interface up
	joined, err := f.wifi(ctx, chosen.Name, s.radio().Start(context.WithoutCancel(ctx), chosen.Name))
	if err != nil {
		return err
	}
	networks := slices.DeleteFunc(slices.Clone(s.config.Network.WiFi.Networks), func(n bootcfg.WiFiNetwork) bool { return n.SSID == joined.SSID })
	s.config.Network.WiFi.Networks = append([]bootcfg.WiFiNetwork{joined}, networks[:min(len(networks), bootcfg.MaxWiFiNetworks-1)]...)
	s.noPortal = "" // it is another network
	return nil
}

// cards are the network interfaces as they are now.
func (s *seed) cards() []card {
	links := map[string]netup.Link{}
	if s.network != nil {
		for _, l := range s.network.Network().Interfaces {
			links[l.Name] = l
		}
	}
	interfaces, err := net.Interfaces()
	s.warn("list the network interfaces", err)
	wireless := s.radio().Interfaces()
	var cards []card
	for _, i := range interfaces {
		link := links[i.Name]
		if i.Flags&net.FlagLoopback != 0 || len(i.HardwareAddr) != 6 || link.VLAN > 0 {
			continue
		}
		c := card{Name: i.Name, MAC: i.HardwareAddr.String(), Wireless: slices.Contains(wireless, i.Name)}
		c.State = c.describe(i.Flags&net.FlagRunning != 0, link)
		cards = append(cards, c)
	}
	return cards
}

// describe says in words how a card is.
func (c card) describe(carrier bool, link netup.Link) string {
	switch {
	case len(link.Addresses) > 0:
		return link.Addresses[0].String() + " (" + string(link.Method) + ")"
	case carrier:
		return "link, no address"
	case c.Wireless:
		return "Wi-Fi, no network joined"
	}
	return "no link"
}

// radio drives the wireless interfaces, with the networks known now.
func (s *seed) radio() *pid1.Radios {
	if s.radios == nil {
		s.radios = s.system.NewRadios(s.config.Network.WiFi, s.randomMAC())
	}
	return s.radios
}

// randomMAC reports whether the cards' own hardware addresses are to stay unknown.
func (s *seed) randomMAC() bool {
	return pid1.RandomMAC(s.config.Network, s.config.Mode)
}

// choices says what a person can do about a failure.
func (s *seed) choices(err error) (choices []string) {
	var behind *boot.PortalError
	if errors.As(err, &behind) {
		choices = s.addresses()
	}
	choices = append(choices, s.keyLine())
	return append(choices, fmt.Sprintf("Without a key the boot is tried again after %v.", retryAfter))
}

// addresses names the hardware addresses by which the network knows this machine.
func (s *seed) addresses() (lines []string) {
	if s.network == nil {
		return nil
	}
	for _, link := range s.network.Network().Interfaces {
		if link.Routed() {
			lines = append(lines, fmt.Sprintf("The hardware address of %s is %s.", link.Name, link.MAC))
		}
	}
	return lines
}

// maxDriverless is how many devices are named: a screen has 25 lines.
const maxDriverless = 4

// driverless says which network cards have no driver, and why.
func (s *seed) driverless() (lines []string) {
	if s.system.Modules == nil {
		return []string{"this system carries no drivers"}
	}
	kernelLog, err := sysinit.KernelLog()
	s.warn("read the kernel's log", err)
	for _, device := range s.system.Modules.Without(os.DirFS("/sys"), kernelLog) {
		lines = append(lines, device.String())
	}
	return lines[:min(len(lines), maxDriverless)]
}

// why adds to the account of a failure what this machine lacks.
func (s *seed) why(err error) []string {
	var failed *netup.Error
	if !errors.As(err, &failed) || failed.Reason == netup.SwitchedOff {
		return nil
	}
	return s.driverless()
}
