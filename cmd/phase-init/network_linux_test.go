package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/phasebased/phase/cmd/internal/pid1"
	"github.com/phasebased/phase/internal/boot"
	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/netup"
	"github.com/phasebased/phase/internal/portal"
	"github.com/phasebased/phase/internal/sysinit"
	"github.com/phasebased/phase/internal/term"
)

// newSeed is a seed that boots by a configuration, as far as a test lets it.
func newSeed(config bootcfg.Config) (*seed, *strings.Builder) {
	screen := &strings.Builder{}
	system := &pid1.System{
		Log:     slog.New(slog.NewTextHandler(io.Discard, nil)),
		Console: term.New(term.Config{Out: screen, Now: func() time.Duration { return 0 }, ASCII: true}),
	}
	return &seed{system: system, observer: newObserver(system), config: &config, reminded: make(chan struct{}, 1)}, screen
}

func TestPortalIsAskedForOnceWhereThereIsNone(t *testing.T) {
	asked, answer := 0, http.StatusNoContent
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.Header().Set("Location", "http://login.hotel.example/")
		w.WriteHeader(answer)
	}))
	defer server.Close()
	s, _ := newSeed(bootcfg.Config{Network: bootcfg.Network{PortalCheck: server.URL}})
	cable := netup.Network{Interfaces: []netup.Link{
		{Name: "eth0", Carrier: true, Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.9/24")}, Gateway: netip.MustParseAddr("10.0.0.1")},
		{Name: "eth1"},
	}}
	ask := func() bool {
		login, err := s.askPortal(t.Context(), &cable)
		if err != nil {
			t.Error(err)
		}
		return login.Found()
	}
	answer = http.StatusFound
	if first, again := ask(), ask(); !first || !again || asked != 2 {
		t.Errorf("behind a portal: asked %d times", asked)
	}
	answer = http.StatusNoContent
	if first, again := ask(), ask(); first || again || asked != 3 {
		t.Errorf("without one: asked %d times", asked)
	}
	eth0 := &cable.Interfaces[0]
	eth0.Addresses = append(eth0.Addresses, netip.MustParsePrefix("2001:db8::9/64"))
	if ask() || asked != 3 {
		t.Errorf("with another address there: asked %d times", asked)
	}
	s.restartNetwork()
	if ask() || asked != 4 {
		t.Errorf("on another network: asked %d times", asked)
	}
	eth0.Gateway, asked = netip.MustParseAddr("10.0.0.254"), 3
	if ask() || asked != 4 {
		t.Errorf("with the cable in another network: asked %d times", asked-3)
	}
	s.restartNetwork()
	s.config.Network.Proxy = "http://proxy.example:3128"
	if ask() || asked != 4 {
		t.Error("asked beside a proxy")
	}
	s.config.Network = bootcfg.Network{}
	if ask() || asked != 4 {
		t.Error("asked though it is switched off")
	}
}

func TestClientFollowsTheProxy(t *testing.T) {
	s, _ := newSeed(bootcfg.Config{Mode: bootcfg.Internet})
	s.fetcher = &fetch.Fetcher{}
	for proxy, want := range map[bootcfg.Proxy]string{"": "", "http://me:secret@proxy.example:3128": "proxy.example:3128"} {
		s.config.Network.Proxy = proxy
		if err := s.setClient(); err != nil {
			t.Fatal(err)
		}
		request := httptest.NewRequest("GET", "https://mirror.example/", nil)
		chosen := ""
		if by := s.fetcher.Client.Transport.(*http.Transport).Proxy; by != nil {
			if u, err := by(request); err == nil && u != nil {
				chosen = u.Host
			}
		}
		if chosen != want {
			t.Errorf("by %q, want %q", chosen, want)
		}
	}
}

func TestPortalIsTheHeadline(t *testing.T) {
	s, _ := newSeed(bootcfg.Config{})
	err := &boot.PortalError{
		Login: portal.Login{URL: "http://login.hotel.example/", From: portal.FromCheck},
		Err:   &boot.NotFoundError{NotFound: discover.NotFound{Answers: []discover.Answer{{Source: "http://mirror.example", Err: errors.New("not a pointer")}}}},
	}
	_, f := s.observer.failure(err)
	if f.Code != "NET-031" || f.Wrong != "ERROR: this network wants a login in a browser first: http://login.hotel.example/" {
		t.Errorf("%s: %s", f.Code, f.Wrong)
	}
	if !slices.Equal(f.Tried, []string{"http://mirror.example: not a pointer"}) || len(f.Do) != 1 || !strings.Contains(f.Do[0], "log in on another device") {
		t.Errorf("tried %q, do %q", f.Tried, f.Do)
	}
}

func TestFailureIsNotSaidTwice(t *testing.T) {
	s, _ := newSeed(bootcfg.Config{})
	if _, f := s.observer.failure(&netup.Error{Reason: netup.NoSocket}); len(f.Tried) > 0 {
		t.Errorf("%q", f.Tried)
	}
}

func TestKeysOfTheMenu(t *testing.T) {
	s, _ := newSeed(bootcfg.Config{})
	for key, want := range map[byte]bool{'r': true, 'U': true, 'n': true, 'm': true, 'w': false, 's': false, 'l': true, 'd': true, 'b': true, 'p': true, 'x': false, '[': false, 0: false} {
		if _, got := s.chosen(key); got != want {
			t.Errorf("%q: %v", key, got)
		}
	}
	for _, c := range menu() {
		if want := strings.IndexByte("rmunw", c.key) >= 0; c.again != want || c.ends != (c.key == 'b' || c.key == 'p') {
			t.Errorf("%c leads to another try: %v; ends: %v", c.key, c.again, c.ends)
		}
	}
	if want := "Keys: r try again, m another mode, u type a provider's URL, n network settings, l logs, d save diagnostics, b reboot, p power off."; s.keyLine() != want {
		t.Errorf("%q, want %q", s.keyLine(), want)
	}
	s.config = nil // the medium could not be read
	if want := "Keys: r try again, l logs, d save diagnostics, b reboot, p power off."; s.keyLine() != want {
		t.Errorf("%q, want %q", s.keyLine(), want)
	}
}

// handOf is a hand that reads these keys.
func handOf(keys <-chan sysinit.Key) *hand {
	return &hand{keys: keys, end: func() {}, read: func() (<-chan sysinit.Key, func()) { return keys, func() {} }}
}

// line sends a text again and again, with a pause before each byte, for as long as
// anybody listens.
func line(ctx context.Context, text string, pause time.Duration) <-chan sysinit.Key {
	keys := make(chan sysinit.Key)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return
			}
			select {
			case keys <- sysinit.Key{Byte: text[i%len(text)]}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return keys
}

// A serial line that sends for ever must not keep an unattended machine from
// trying again.
func TestNoiseDoesNotHoldUpTheNextTry(t *testing.T) {
	for name, c := range map[string]struct {
		text    string
		pause   time.Duration
		atLeast time.Duration
		atMost  time.Duration
		asks    bool
	}{
		"a flood":             {"ru", time.Millisecond, retryAfter, 2 * (retryAfter + retrySpread), false},
		"what was written":    {"u type a provider's URL, ", time.Millisecond, retryAfter, 2 * (retryAfter + retrySpread), false},
		"a form, without end": {"uxxxxxxxxxxx", time.Second, turnLimit, turnLimit, true},
		"forms that are left": {"u\x1b", time.Second, turnLimit, turnLimit, true},
		"another try":         {"r", time.Second, 0, 2 * time.Second, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				noise, silence := context.WithTimeout(ctx, 2*turnLimit) // for a wait that would not end
				defer silence()
				s, screen := newSeed(bootcfg.Config{Mode: bootcfg.Internet})
				began := time.Now()
				s.wait(ctx, handOf(line(noise, c.text, c.pause)))
				if took := time.Since(began); took < c.atLeast || took > c.atMost {
					t.Errorf("took %v", took)
				}
				if asked := strings.Contains(screen.String(), "provider of your own"); asked != c.asks {
					t.Errorf("asked: %v", asked)
				}
			})
		})
	}
}

// What a person is asked for is answered on the console on which it was wished.
func TestWishIsGrantedWhereItWasTyped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s, _ := newSeed(bootcfg.Config{Mode: bootcfg.Internet})
		screen, keys := &strings.Builder{}, make(chan sysinit.Key)
		go func() {
			for i, b := range []byte("Nhttp://noise\rhttp://b\r") { // the first line from elsewhere
				key := sysinit.Key{Byte: b}
				if i >= len("Nhttp://noise\r") {
					key.Echo = screen
				}
				select {
				case keys <- key:
				case <-ctx.Done():
					return
				}
			}
		}()
		c, _ := s.chosen('U')
		if !s.change(ctx, c, sysinit.Key{Byte: 'U', Echo: screen}, handOf(keys)) || !slices.Equal(s.config.Providers, []string{"http://b"}) {
			t.Errorf("%q", s.config.Providers)
		}
	})
}

func TestTypedProviderComesFirst(t *testing.T) {
	s, _ := newSeed(bootcfg.Config{Mode: bootcfg.Internet, Providers: []string{"http://a", "http://b"}})
	p := newPerson(t.Context(), bootcfg.Internet, "http://b/\r")
	if err := s.askProvider(t.Context(), p.forms, nil); err != nil || !slices.Equal(s.config.Providers, []string{"http://b", "http://a"}) {
		t.Errorf("%q, %v", s.config.Providers, err)
	}
	s.config.Providers = slices.Repeat([]string{"http://x"}, bootcfg.MaxProviders)
	p = newPerson(t.Context(), bootcfg.Internet, "http://c\r")
	if err := s.askProvider(t.Context(), p.forms, nil); err != nil || len(s.config.Providers) != bootcfg.MaxProviders || s.config.Providers[0] != "http://c" {
		t.Errorf("%q, %v", s.config.Providers, err)
	}
}
