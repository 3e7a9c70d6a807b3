package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
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

// The keys that ask for a change of how this boot goes.
const (
	keyAgain    = 'r'
	keyProvider = 'u'
	keyNetwork  = 'n'
	keyWiFi     = 'w'
	keyReboot   = 'b'
	keyOff      = 'p'
)

// keyLine names the keys that do something.
func (s *seed) keyLine() string {
	line := "Keys: r try again, "
	if s.config != nil {
		line += "u type a provider's URL, n network settings, "
		if len(s.radio().Interfaces()) > 0 {
			line += "w choose a Wi-Fi network, "
		}
	}
	return line + "b reboot, p power off."
}

// keys begins to read what is typed, on all consoles. The caller ends it: the
// next question must not find this one's reader still there.
func (s *seed) keys(ctx context.Context) (keys <-chan sysinit.Key, end func()) {
	return readKeys(ctx, s.system.Consoles(), s.system.Go)
}

// readKeys reads plain keys until end is called, and runs what it needs by run.
func readKeys(ctx context.Context, consoles []sysinit.Console, run func(name string, f func() error)) (keys <-chan sysinit.Key, end func()) {
	ctx, cancel := context.WithCancel(ctx)
	raw, plain := make(chan sysinit.Key), make(chan sysinit.Key)
	read, sorted := make(chan struct{}), make(chan struct{})
	wait := sysinit.ReadKeys(ctx, consoles, raw)
	run("keys", func() error {
		defer close(read)
		wait()
		return nil
	})
	run("plain keys", func() error {
		defer close(sorted)
		dialog.Plain(ctx, raw, plain)
		return nil
	})
	return plain, func() { cancel(); <-read; <-sorted }
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
	s.system.Console.Line(s.keyLine())
	keys, end := s.keys(ctx)
	defer end()
	for {
		select {
		case key := <-keys:
			if !dialog.Alone(ctx, keys, key) {
				continue
			}
			if s.changes(key.Byte) {
				s.interrupt(&wish{key})
				return
			}
			s.act(lower(key.Byte))
		case <-ctx.Done():
			return
		}
	}
}

// changes reports whether a key leads to another try.
func (s *seed) changes(key byte) bool {
	key = lower(key)
	if s.config == nil {
		return key == keyAgain
	}
	return slices.Contains([]byte{keyAgain, keyProvider, keyNetwork}, key) ||
		key == keyWiFi && len(s.radio().Interfaces()) > 0
}

func lower(key byte) byte {
	if key >= 'A' && key <= 'Z' {
		key += 'a' - 'A'
	}
	return key
}

// grant does what was asked for while the network was waited for.
func (s *seed) grant(ctx context.Context, w *wish) {
	s.observer.failure(w) // ends the stages that it cut short
	ctx, cancel := context.WithTimeoutCause(ctx, turnLimit, dialog.ErrLeft)
	defer cancel()
	keys, end := s.keys(ctx)
	defer end()
	s.change(ctx, w.key, keys)
}

// wait ends with a key that leads to another try, or by itself.
func (s *seed) wait(ctx context.Context, keys <-chan sysinit.Key) {
	ctx, cancel := context.WithTimeoutCause(ctx, turnLimit, dialog.ErrLeft)
	defer cancel()
	again := time.NewTimer(retryAfter + rand.N(retrySpread))
	defer again.Stop()
	for {
		select {
		case key := <-keys:
			if !dialog.Alone(ctx, keys, key) {
				continue
			}
			if !s.changes(key.Byte) {
				s.act(lower(key.Byte))
				continue
			}
			if again.Stop(); lower(key.Byte) == keyAgain || s.change(ctx, key, keys) {
				return
			}
			s.system.Console.Line(s.keyLine())
			again.Reset(retryAfter + rand.N(retrySpread))
		case <-again.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// act ends this boot, if a key asks for that.
func (s *seed) act(key byte) {
	var err error
	switch key {
	case keyReboot:
		err = sysinit.Reboot(syncLimit)
	case keyOff:
		err = sysinit.PowerOff(syncLimit)
	}
	if err != nil {
		s.system.Console.Line("This did not work: " + err.Error())
	}
}

// change asks what is to be different, and makes it so. It reports false if the
// question was left.
func (s *seed) change(ctx context.Context, key sysinit.Key, keys <-chan sysinit.Key) bool {
	f := forms{
		ask:     &dialog.Asker{Keys: keys, Console: s.system.Console, From: key.Echo},
		console: s.system.Console, mode: s.config.Mode, country: s.config.Network.WiFi.Country,
	}
	var err error
	switch lower(key.Byte) {
	case keyAgain:
		s.restartNetwork()
	case keyProvider:
		err = s.askProvider(ctx, f)
	case keyNetwork:
		err = s.askNetwork(ctx, f)
	case keyWiFi:
		err = s.askWiFi(ctx, f)
	}
	if err != nil && !errors.Is(err, dialog.ErrLeft) {
		f.say(err)
	}
	return err == nil
}

// askProvider puts a provider before all others, for this boot.
func (s *seed) askProvider(ctx context.Context, f forms) error {
	base, err := f.provider(ctx)
	if err == nil {
		others := slices.DeleteFunc(slices.Clone(s.config.Providers), func(p string) bool { return p == base })
		s.config.Providers = append([]string{base}, others[:min(len(others), bootcfg.MaxProviders-1)]...)
	}
	return err
}

// askNetwork changes the settings and begins the bring-up anew.
func (s *seed) askNetwork(ctx context.Context, f forms) error {
	network, err := f.network(ctx, s.config.Network, s.cards(), s.randomMAC())
	if err != nil {
		return err
	}
	s.config.Network = network
	s.restartNetwork()
	return s.setClient()
}

// askWiFi joins a network and keeps it, for the next system as well.
func (s *seed) askWiFi(ctx context.Context, f forms) error {
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
