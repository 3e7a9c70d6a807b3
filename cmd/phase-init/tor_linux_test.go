package main

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/phasebased/phase/cmd/internal/pid1"
	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/netup"
	"github.com/phasebased/phase/internal/tor"
)

// doors are what makes something that reaches other machines, and the files that may
// call it. Whoever adds one says there what it does in a boot through Tor.
var doors = map[string][]string{
	"fetch.NewClient": {"dial_linux.go"}, "fetch.NewLocalClient": {"dial_linux.go"}, "fetch.NewClientThrough": {"dial_linux.go"},
	"p2p.New": {"dial_linux.go"}, "mdns.NewFinder": {"dial_linux.go"}, "mdns.Source": {"dial_linux.go"},
	"nettime.Ask": {"time_linux.go"}, "portal.Ask": {"network_linux.go"}, "netup.New": {"network_linux.go"},
	"http.Get": nil, "http.Post": nil, "http.Head": nil, "http.DefaultClient": nil, "http.Client": nil, "http.Transport": nil, "http.DefaultTransport": nil,
	"net.Dial": nil, "net.DialTimeout": nil, "net.DialTCP": nil, "net.DialUDP": nil, "net.Dialer": nil, "net.Listen": nil, "net.ListenPacket": nil,
	"net.Resolver": nil, "net.DefaultResolver": nil, "net.LookupHost": nil, "net.LookupIP": nil, "net.LookupAddr": nil, "net.LookupTXT": nil,
}

// Nothing that reaches other machines is made anywhere but where it is decided how
// this boot does.
func TestOneDoor(t *testing.T) {
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			selector, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := selector.X.(*ast.Ident)
			if !ok {
				return true
			}
			name := pkg.Name + "." + selector.Sel.Name
			if allowed, door := doors[name]; door {
				found[name] = true
				// A pointer to a client is no client.
				if !slices.Contains(allowed, f.Name()) && !(name == "http.Client" && f.Name() == "dial_linux.go") {
					t.Errorf("%s uses %s", f.Name(), name)
				}
			}
			return true
		})
	}
	for name, allowed := range doors {
		if len(allowed) > 0 && !found[name] {
			t.Errorf("nobody uses %s: this test looks for the wrong thing", name)
		}
	}
}

func torSeed() *seed {
	return &seed{
		system: &pid1.System{Log: slog.New(slog.DiscardHandler)},
		config: &bootcfg.Config{
			Mode: bootcfg.Private, Tor: bootcfg.Tor{Allow: true}, Time: bootcfg.Default("x86_64").Time,
			Bootstrap: []string{"/dnsaddr/bootstrap.example"}, Network: bootcfg.Network{PortalCheck: "http://192.0.2.1/"},
		},
	}
}

// An image without Tor asks nobody: neither a client nor a node comes to be.
func TestWithoutTorThereIsNoWay(t *testing.T) {
	if _, err := os.Stat("/usr/bin/tor"); !errors.Is(err, fs.ErrNotExist) {
		t.Skip("this machine has Tor where an image has it")
	}
	s := torSeed()
	if c, err := s.client(); !tor.Is(err, tor.ProgramMissing) || c != nil {
		t.Errorf("a client: %v, %v", c, err)
	}
	if n, err := s.dht(); !tor.Is(err, tor.ProgramMissing) || n != nil {
		t.Errorf("a node: %v, %v", n, err)
	}
}

// A fetcher keeps the client that it has where there is no other: with none it would
// ask directly.
func TestRefusedClientIsNotUsed(t *testing.T) {
	s := torSeed()
	s.config.Tor.Extra = []string{"ControlPort 9051"} // which is refused with Tor, and without
	before := &http.Client{}
	s.fetcher = &fetch.Fetcher{Client: before}
	if err := s.setClient(); err == nil || s.fetcher.Client != before {
		t.Errorf("%v, and the client is %v", err, s.fetcher.Client)
	}
}

// Without its policy a medium with Tor boots in Private mode only if the command line
// says how.
func TestLostPolicy(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]bool{
		"phase.mode=private": true, "phase.mode=privat": true, "phase.mode=private phase.tor=on": false, "phase.mode=private phase.tor=off": false,
		"phase.mode=internet": false, "phase.mode=local phase.tor=on": false, "": false,
	} {
		config, err := bootcfg.Parse(line, nil, nil, "x86_64")
		if err != nil {
			t.Fatal(err)
		}
		if got := torUndecided(line, config, program); got != want {
			t.Errorf("%q: %t", line, got)
		}
		if torUndecided(line, config, program+"-none") {
			t.Errorf("%q: an image without Tor is refused", line)
		}
	}
}

// What cannot go through Tor is not done at all.
func TestThroughTorOnly(t *testing.T) {
	s := torSeed()
	if s.timeSource() != nil {
		t.Error("network time is asked")
	}
	login, err := s.askPortal(t.Context(), &netup.Network{Portal: "http://192.0.2.1/"})
	if err != nil || login.Found() {
		t.Errorf("the portal is asked: %+v, %v", login, err)
	}
	s.config.Mode = bootcfg.Internet // as no configuration is
	if sources, finders := s.neighbours(); len(sources)+len(finders) > 0 {
		t.Error("the local network is asked")
	}
	s.config.Tor.Allow = false
	if err := s.throughTor(t.Context()); err != nil || s.tor.client != nil {
		t.Errorf("without Tor: %v", err)
	}
}
