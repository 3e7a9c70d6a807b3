package net_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/nettest"
	"github.com/phasebased/phase/internal/netup"
	"github.com/phasebased/phase/internal/portal"
)

const (
	loginURL = "http://" + routerLAN + "/login"
	apiHost  = "portal.example"
)

// bringUp configures the client as a seed does, by DHCP.
func (s *site) bringUp() *netup.Network {
	s.Helper()
	file := filepath.Join(s.TempDir(), "resolv.conf")
	ctx, cancel := context.WithCancel(s.Context())
	m, n, err := netup.Up(ctx, netup.Config{ResolvConf: file, Timeout: nettest.Limit})
	s.Cleanup(func() { cancel(); <-m.Done() })
	nettest.Check(s, err)
	text, err := os.ReadFile(file)
	nettest.Check(s, err)
	s.writeResolv(string(text))
	return n
}

// A guest is a guest network's router: until one has logged in it has every name
// stand for itself and answers every request with its login page.
type guest struct {
	s        *site
	names    *nettest.Program
	loggedIn atomic.Bool
}

func (s *site) guestNetwork(a *authority) *guest {
	s.Helper()
	g := &guest{s: s}
	g.names = s.router.Dnsmasq("lan0", g.dhcp("--address=/#/"+routerLAN)...)
	s.serve(s.router, routerLAN+":80", http.HandlerFunc(g.page))
	s.serveTLS(s.router, routerLAN+":443", a.server(apiHost, time.Now().Add(-time.Minute)), http.HandlerFunc(g.api))
	return g
}

func (g *guest) dhcp(more ...string) []string {
	return append([]string{"--port=53", "--dhcp-range=10.1.0.50,10.1.0.60,1h", "--dhcp-option=114,https://" + apiHost + "/api"}, more...)
}

// page is what one sees for any URL.
func (g *guest) page(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/login" {
		http.Redirect(w, r, loginURL, http.StatusFound)
		return
	}
	w.Header().Set("Content-Type", "text/html")
	_, _ = io.WriteString(w, "<!DOCTYPE html><title>Welcome</title><form>Room number")
}

// api is RFC 8908.
func (g *guest) api(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/captive+json")
	if g.loggedIn.Load() {
		_, _ = io.WriteString(w, `{"captive":false}`)
		return
	}
	_, _ = io.WriteString(w, `{"captive":true,"user-portal-url":"https://`+apiHost+`/rooms"}`)
}

// logIn lets the client out.
func (g *guest) logIn() {
	g.s.Helper()
	g.loggedIn.Store(true)
	g.names.Stop()
	g.names = g.s.router.Dnsmasq("lan0", g.dhcp("--address=/mirror.example/"+webIP, "--address=/check.example/"+webIP, "--address=/"+apiHost+"/"+routerLAN)...)
}

// Behind a sign-in page nothing is found and the page is named as the reason; a
// provider on the same LAN, typed or announced, is a way out; and once one has
// signed in, the mirror is found.
func TestCaptivePortal(t *testing.T) {
	if !isolated(t, "dnsmasq") {
		return
	}
	s := newSite(t)
	ca := s.authority()
	g := s.guestNetwork(ca)
	folder := s.publish(9)
	s.serve(s.web, webIP+":80", checkAndMirror(folder))
	network := s.bringUp()
	if network.Portal != "https://"+apiHost+"/api" {
		t.Errorf("the network names the portal %q", network.Portal)
	}
	s.asks(network, ca, "", portal.Login{URL: "https://" + apiHost + "/rooms", From: portal.FromAPI})
	s.asks(network, ca, "http://check.example/nm", portal.Login{URL: loginURL, From: portal.FromCheck})

	internet := []string{"--mirror", "http://mirror.example", "--mirror", "https://mirror.example", "--portal-check", "http://check.example/nm", "-t", "10s"}
	f := s.discoverWith(ca.trusted(), append(internet, "--no-mdns")...)
	f.failed(t, "NET-031")
	f.failure(t, "http://mirror.example", "answered with a web page instead of the file (a sign-in page of the network?)")
	f.failure(t, "https://mirror.example", "the certificate is for another host (does a sign-in page of the network stand in between?)")
	if !strings.Contains(f.stderr, "ERROR: this network wants a login in a browser first: "+loginURL) {
		t.Errorf("says %q", f.stderr)
	}
	f.behindPortal(t)

	box := s.neighbour("box", "10.1.0.9")
	p := s.provide(box, s.publish(7), "--no-dht")
	typed := s.discover(append(internet, "--no-mdns", "--mirror", "http://10.1.0.9")...)
	typed.found(t, 7)
	typed.behindPortal(t)
	p.Await("announced")
	heard := s.discover(internet...)
	heard.found(t, 7)
	heard.behindPortal(t)

	g.logIn()
	f = s.discover(internet...)
	f.found(t, 9)
	if f.Portal == nil || f.Portal.Found || f.Portal.Error != "" {
		t.Errorf("portal %+v", f.Portal)
	}
	s.asks(network, ca, "", portal.Login{})
	s.asks(network, ca, "http://check.example/nm", portal.Login{})
}

func (f finding) behindPortal(t *testing.T) {
	t.Helper()
	if f.Portal == nil || !f.Portal.Found || f.Portal.URL != loginURL || f.Portal.Error != "" {
		t.Errorf("portal %+v", f.Portal)
	}
}

// asks asks as a seed does.
func (s *site) asks(n *netup.Network, ca *authority, check string, want portal.Login) {
	s.Helper()
	got, err := portal.Ask(s.Context(), portal.Config{API: n.Portal, CheckURL: check, Roots: ca.pool()})
	if err != nil || got != want {
		s.Errorf("check %q: %+v, %v; want %+v", check, got, err, want)
	}
}

// checkAndMirror is a server for both, as far as names go.
func checkAndMirror(folder string) http.Handler {
	files := http.FileServer(http.Dir(folder))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host == "check.example" {
			_, _ = io.WriteString(w, "NetworkManager is online\n")
			return
		}
		files.ServeHTTP(w, r)
	})
}

// Of two name servers the first is dead: then the second is asked. If both are,
// mirrors with a name fail with a sentence, and all that needs no name works.
func TestBrokenDNS(t *testing.T) {
	if !isolated(t, "dnsmasq") {
		return
	}
	s := newSite(t)
	s.router.Dnsmasq("lan0", "--port=53", "--dhcp-range=10.1.0.50,10.1.0.60,1h", "--dhcp-option=option:dns-server,"+nobody+","+routerLAN,
		"--local=/example/", "--address=/mirror.example/"+webIP)
	s.provide(s.web, s.publish(8))
	s.bringUp()
	s.discover("--no-mdns", "--mirror", "http://mirror.example", "-t", "15s").found(t, 8)
	unknown := s.discover("--no-mdns", "--mirror", "http://nowhere.example", "-t", "15s")
	unknown.failed(t, "DISC-001")
	unknown.failure(t, "http://nowhere.example", "o such host")

	s.nameServers(nobody, "10.1.0.67")
	p := s.provide(s.neighbour("box", "10.1.0.9"), s.publish(9), "--no-dht")
	p.Await("announced")
	f := s.discover("--mirror", "http://mirror.example", "--mirror", "http://"+webIP, "-t", "15s")
	f.found(t, 9)
	f.failure(t, "http://mirror.example", "no name server answers")
	gave := map[string]int64{}
	for _, c := range f.Candidates {
		gave[c.Source] = c.Version
	}
	if gave["mdns"] != 9 || gave["http://"+webIP] != 8 {
		t.Errorf("the sources gave %v", gave)
	}
}
