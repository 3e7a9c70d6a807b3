package net_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/internal/nettest"
)

// All sources are asked together, and the newest release is found whoever has it:
// a neighbour that announces itself, the DHT, or a mirror.
func TestNewestWherever(t *testing.T) {
	if !isolated(t) {
		return
	}
	s := newSite(t)
	s.configure()
	near, node := s.neighbour("near", "10.1.0.9"), s.neighbour("node", "10.1.0.10")
	folders := []string{s.publish(7), s.publish(8), s.publish(9)}
	for turn, newest := range []string{"mdns", "dht", "http://" + webIP} {
		at := func(i int) string { return folders[(2+i+len(folders)-turn)%len(folders)] } // the newest goes round
		ready := filepath.Join(t.TempDir(), "ready.json")
		running := []*nettest.Program{
			s.provide(near, at(0), "--no-dht"),
			s.provide(node, at(1), "--no-mdns", "--ready-file", ready),
			s.provide(s.web, at(2)),
		}
		running[0].Await("announced")
		f := s.discover("--mirror", "http://"+webIP, "-b", peerOf(t, ready), "-t", "10s")
		f.found(t, 9)
		gave := map[string]int64{}
		for _, c := range f.Candidates {
			if !c.Verified || c.AtMS <= 0 {
				t.Errorf("candidate %+v", c)
			}
			gave[c.Source] = max(gave[c.Source], c.Version)
		}
		if len(gave) != 3 || gave[newest] != 9 {
			t.Errorf("%s has the newest, and the sources gave %v", newest, gave)
		}
		if f.took > 30*time.Second {
			t.Errorf("took %s", f.took)
		}
		for _, p := range running {
			p.Stop()
		}
	}
}

// The peers to start from have a name in the DNS, on the command line and in a
// bootstrap-nodes.toml.
func TestBootstrapByName(t *testing.T) {
	if !isolated(t, "dnsmasq") {
		return
	}
	s := newSite(t)
	s.configure(routerLAN)
	ready, file := filepath.Join(t.TempDir(), "ready.json"), filepath.Join(t.TempDir(), "bootstrap-nodes.toml")
	s.provide(s.neighbour("node", "10.1.0.10"), s.publish(7), "--no-mdns", "--ready-file", ready)
	s.router.Dnsmasq("lan0", "--port=53", "--local=/example/", "--txt-record=_dnsaddr.bootstrap.example,dnsaddr="+peerOf(t, ready))
	nettest.Check(t, os.WriteFile(file, []byte("[[bootstrap]]\ndnsaddr = \"bootstrap.example\"\n"), 0o644))
	for _, from := range [][]string{{"-b", "/dnsaddr/bootstrap.example"}, {"--bootstrap-file", file}} {
		s.discover(append(from, "--no-mdns", "-t", "10s")...).found(t, 7)
	}
	f := s.discover("-b", "/dnsaddr/nowhere.example", "--no-mdns", "-t", "10s")
	f.failed(t, "DISC-001")
	f.failure(t, "dht", "nowhere.example")
}

// peerOf is the DHT address on the LAN of a provider that wrote this file.
func peerOf(t *testing.T, ready string) string {
	t.Helper()
	return peerAt(t, ready, "10.1.0.")
}

// peerAt is the same for an address that begins so.
func peerAt(t *testing.T, ready, address string) string {
	t.Helper()
	var file struct {
		P2PAddrs []string `json:"p2p_addrs"`
	}
	for deadline := time.Now().Add(nettest.Limit); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		raw, err := os.ReadFile(ready)
		if err != nil || json.Unmarshal(raw, &file) != nil {
			continue
		}
		for _, a := range file.P2PAddrs {
			if strings.HasPrefix(a, "/ip4/"+address) {
				return a
			}
		}
	}
	t.Fatalf("no address in %s: %v", ready, file.P2PAddrs)
	return ""
}

// A mirror that swallows every packet costs the budget and not the answer.
func TestBlackHole(t *testing.T) {
	if !isolated(t) {
		return
	}
	s := newSite(t)
	s.configure()
	s.provide(s.web, s.publish(7))
	hole, err := netlink.ParseIPNet("198.51.100.0/24")
	nettest.Check(t, err)
	nettest.Check(t, s.router.Handle.RouteAdd(&netlink.Route{Dst: hole, Type: unix.RTN_BLACKHOLE}))
	f := s.discover("--no-mdns", "--mirror", "http://198.51.100.7", "--mirror", "http://"+webIP, "-t", "8s")
	f.found(t, 7)
	f.failure(t, "http://198.51.100.7", "while connecting to it")
	if f.took < 7*time.Second {
		t.Errorf("took %s of 8s", f.took)
	}
	if at := f.Candidates[0].AtMS; at > 7000 {
		t.Errorf("the answer waited %g ms for the black hole", at)
	}
}

// A LAN with IPv6 alone, and a mirror that has a name.
func TestIPv6Only(t *testing.T) {
	if !isolated(t, "dnsmasq") {
		return
	}
	s := newSite(t)
	s.client.Address("eth0", "2001:db8:1::2/64")
	s.client.Route("::/0", "2001:db8:1::1")
	s.nameServers("2001:db8:1::1")
	s.router.Dnsmasq("lan0", "--port=53", "--address=/mirror.example/2001:db8:2::7")
	s.provide(s.web, s.publish(7))
	f := s.discover("--mirror", "http://mirror.example", "--mirror", "http://"+webIP, "-t", "10s")
	f.found(t, 7)
	f.failure(t, "http://"+webIP, "network is unreachable")
}

// Without a network the command ends soon and says so; with one it works the next
// time.
func TestOffline(t *testing.T) {
	if !isolated(t) {
		return
	}
	s := newSite(t)
	s.client.Down("eth0")
	s.nameServers(routerLAN)
	s.provide(s.web, s.publish(7))
	f := s.discover("--mirror", "http://"+webIP, "--mirror", "http://mirror.example", "--portal-check", "http://"+webIP+"/nm", "-t", "8s")
	f.failed(t, "DISC-001")
	f.failure(t, "http://"+webIP, "network is unreachable")
	f.failure(t, "http://mirror.example", "no name server answers")
	f.failure(t, "mdns", "no interface is up")
	f.failure(t, "dht-lan", "nobody to start from: multicast DNS: no interface is up")
	if f.Portal == nil || f.Portal.Found || !strings.Contains(f.Portal.Error, "network is unreachable") {
		t.Errorf("portal %+v", f.Portal)
	}
	if f.took > 30*time.Second {
		t.Errorf("took %s", f.took)
	}
	s.client.Up("eth0")
	s.configure()
	s.discover("--mirror", "http://"+webIP, "-t", "10s").found(t, 7)
}
