package mdns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/discover/discovertest"
	"github.com/phasebased/phase/internal/nettest"
	"github.com/phasebased/phase/manifest"
)

// The tests in this file need a network on which multicast works and nobody else
// talks: an interface that answers at these addresses.
var here, hostile = netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("198.51.100.8")

func TestNetwork(t *testing.T) {
	if !nettest.Isolated(t, nettest.Config{}) {
		return
	}
	nettest.Here(t).Loopback(here.String()+"/24", hostile.String()+"/24")
	t.Run("Conformance", testConformance)
	t.Run("TellsWhatItAnnounced", testAnnounced)
	t.Run("Records", testRecords)
	t.Run("Flood", testFlood)
	t.Run("Wait", testWait)
}

func get(ctx context.Context, url string, max int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %s", resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, max))
}

// provide serves a pointer over HTTP and returns the port.
func provide(t *testing.T, q discover.Query, pointer []byte) int {
	t.Helper()
	l, err := net.Listen("tcp", here.String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /"+q.Channel+"/"+q.Arch+"/pointer.json", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(pointer)
	})
	srv := &http.Server{Handler: mux}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

func announce(t *testing.T, a Announcement) *Announcer {
	t.Helper()
	a.Host = "box"
	announcer, err := Announce(a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { announcer.Close() })
	return announcer
}

func testConformance(t *testing.T) {
	discovertest.Run(t, discovertest.World{
		Source: func(t *testing.T, pointers ...[]byte) discover.Source {
			for i, raw := range pointers {
				p, err := manifest.InspectPointer(raw)
				if err != nil {
					t.Fatal(err)
				}
				q := discover.Query{Channel: p.Channel, Arch: p.Arch}
				announce(t, Announcement{Instance: fmt.Sprintf("p%d", i), Query: q, Version: p.ManifestVersion, Port: provide(t, q, raw)})
			}
			return Source{Get: get}
		},
		Silent: func(t *testing.T) discover.Source {
			l, err := net.Listen("tcp", here.String()+":0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			announce(t, Announcement{Query: stable, Port: l.Addr().(*net.TCPAddr).Port})
			return Source{Get: get}
		},
		Wait: 2 * time.Second,
	})
}

func testAnnounced(t *testing.T) {
	pointer := discovertest.Pointer(t, stable, 5)
	port := provide(t, stable, pointer)
	a := announce(t, Announcement{Query: stable, Version: 5, Manifest: "/stable/x86_64/manifest.json", Port: port}).Announced()
	if a.Instance != "plasmd-box._phase-image._tcp.local." || a.Host != "plasmd-box.local." || a.Port != port || len(a.Addrs) == 0 || a.Addrs[0] != here {
		t.Errorf("announced %+v", a)
	}
	if got := strings.Join(a.Text, " "); got != "channel=stable arch=x86_64 version=5 manifest=/stable/x86_64/manifest.json" {
		t.Errorf("text %q", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var c discover.Candidate
	begin := time.Now()
	err := Source{Get: get}.Search(ctx, stable, func(found discover.Candidate) { c = found; cancel() })
	t.Logf("found after %v", time.Since(begin))
	if err != nil || c.Origin != "mdns plasmd-box" || len(c.Bases) != 1 || c.Bases[0] != fmt.Sprintf("http://%s:%d", here, port) || !bytes.Equal(c.Pointer, pointer) {
		t.Errorf("found %+v, error %v", c, err)
	}
}

// say sends multicast responses from an address, as any host on the network can,
// until the test ends.
func say(t *testing.T, from netip.Addr, messages ...*dns.Msg) {
	t.Helper()
	conn, err := net.DialUDP("udp4", &net.UDPAddr{IP: from.AsSlice()}, &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353})
	if err != nil {
		t.Fatal(err)
	}
	var packets [][]byte
	for _, m := range messages {
		raw, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		packets = append(packets, raw)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			for _, p := range packets {
				_, _ = conn.Write(p)
			}
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-stopped; conn.Close() })
}

// response is a complete announcement of one instance.
func response(instance string, addr net.IP, port uint16, text ...string) *dns.Msg {
	name := instance + "." + Service + "." + Domain + "."
	head := func(name string, kind uint16) dns.RR_Header {
		return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: 120}
	}
	m := new(dns.Msg)
	m.Response = true
	m.Answer = []dns.RR{
		&dns.PTR{Hdr: head(Service+"."+Domain+".", dns.TypePTR), Ptr: name},
		&dns.SRV{Hdr: head(name, dns.TypeSRV), Port: port, Target: instance + "-host.local."},
		&dns.TXT{Hdr: head(name, dns.TypeTXT), Txt: text},
		&dns.A{Hdr: head(instance+"-host.local.", dns.TypeA), A: addr},
	}
	return m
}

// Records that lead nowhere good are not followed, and do not keep good ones from
// being found.
func testRecords(t *testing.T) {
	pointer := discovertest.Pointer(t, stable, 5)
	port := uint16(provide(t, stable, pointer))
	ours := []string{"channel=stable", "arch=x86_64"}
	say(t, here,
		response("loop", net.IPv4(127, 0, 0, 1), port, ours...),
		response("zero", net.IPv4zero, port, ours...),
		response("multi", net.IPv4(224, 0, 0, 1), port, ours...),
		response("broad", net.IPv4bcast, port, ours...),
		response("foreign", net.IPv4(8, 8, 8, 8), port, ours...),
		response("beside", net.IPv4(198, 51, 101, 7), port, ours...),
		response("noport", here.AsSlice(), 0, ours...),
		response("other", here.AsSlice(), port, "channel=testing", "arch=x86_64"),
		response("notext", here.AsSlice(), port),
		response("good", here.AsSlice(), port, ours...),
	)
	var asked []string
	src := Source{Wait: 2 * time.Second, Get: func(ctx context.Context, url string, max int64) ([]byte, error) {
		asked = append(asked, url)
		return get(ctx, url, max)
	}}
	var got []discover.Candidate
	if err := src.Search(t.Context(), stable, func(c discover.Candidate) { got = append(got, c) }); err != nil {
		t.Error(err)
	}
	if len(got) != 1 || got[0].Origin != "mdns good" || len(asked) != 1 {
		t.Errorf("found %+v, asked %v", got, asked)
	}
}

// One machine that floods the network keeps nobody from being found, and causes a
// bounded number of requests.
func testFlood(t *testing.T) {
	var flood []*dns.Msg
	for i := range 2 * maxEntries {
		text := []string{"channel=stable", "arch=x86_64", fmt.Sprintf("p2p=/ip4/198.51.100.9/tcp/%d/p2p/%s", 1+i, peerID)}
		flood = append(flood, response(fmt.Sprintf("x%d", i), net.IPv4(198, 51, 100, byte(100+i%100)), uint16(1000+i), text...))
	}
	say(t, hostile, flood...)
	time.Sleep(100 * time.Millisecond) // until the flood is on its way
	pointer := discovertest.Pointer(t, stable, 5)
	announce(t, Announcement{Query: stable, Version: 5, Port: provide(t, stable, pointer), Addrs: []netip.Addr{here}})
	asked := make(chan string, 10*maxBases)
	peers := discover.NewPeers()
	src := Source{Wait: 3 * time.Second, Peers: peers, Get: func(ctx context.Context, url string, max int64) ([]byte, error) {
		if !strings.HasPrefix(url, "http://"+here.String()) {
			asked <- url
			return nil, errors.New("nobody there")
		}
		return get(ctx, url, max)
	}}
	found := 0
	if err := src.Search(t.Context(), stable, func(discover.Candidate) { found++ }); err != nil || found == 0 {
		t.Errorf("found %d, error %v", found, err)
	}
	if n := len(asked); n == 0 || n > maxSenderBases {
		t.Errorf("%d requests", n)
	}
	if n := len(peers.List()); n == 0 || n > maxPeers {
		t.Errorf("%d peers", n)
	}
}

// Without anybody there, Wait ends the search and that is no error.
func testWait(t *testing.T) {
	begin := time.Now()
	err := Source{Get: get, Wait: 100 * time.Millisecond}.Search(t.Context(), stable, func(discover.Candidate) { t.Error("found") })
	if took := time.Since(begin); err != nil || took < 100*time.Millisecond || took > limit {
		t.Errorf("took %v, error %v", took, err)
	}
}
