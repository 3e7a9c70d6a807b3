// Command stock finds a boot pointer the way most programs use libp2p: a host
// made by libp2p.New and kad-dht as a client of it. It is what phase-discover is
// measured against, and does the same work: from three bootstrap peers to a
// pointer that a root vouches for. It prints, as phase-discover does, a line
// with the word "verified" on stderr for each pointer that arrives, and
// MANIFEST_URL=… on stdout when its search is complete.
//
// # What is set, and what is not
//
// It waits for nothing but answers: it has no pause after bootstrapping, as the
// libraries' examples have, and starts to search as soon as one peer is in its
// routing table, which is the earliest that kad-dht can. Without -default it
// also leaves out what a program that only asks does not need: sockets to listen
// on, relays, metrics, and the refreshing of the routing table. With -default it
// is libp2p.New() and dht.New(client mode) as they come.
//
// # Why it takes what it takes
//
// The root package links every transport that libp2p has (TCP, QUIC, WebSocket,
// WebTransport, WebRTC), TLS beside Noise, and the framework that assembles
// them; their tables are set up before main starts. A connection is used only
// after identify has completed (a round trip more), and a peer enters the routing
// table only after it has answered a question about itself (another one). Three
// peers are asked at a time.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/phasebased/phase/manifest"
)

var want = manifest.Want{Channel: manifest.ChannelStable, Arch: manifest.ArchX8664}

func main() {
	defaults := flag.Bool("default", false, "set nothing that need not be set")
	root := flag.String("k", "", "root.json `file` whose timestamp key must have signed the pointer")
	within := flag.Duration("t", 30*time.Second, "time to search")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), *within)
	defer cancel()
	begin := time.Now()
	url, err := find(ctx, *root, flag.Args(), *defaults, func(version int64) {
		fmt.Fprintf(os.Stderr, "%v: version %d, verified\n", time.Since(begin), version)
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "stock:", err)
		os.Exit(1)
	}
	fmt.Printf("MANIFEST_URL=%s\n", url)
}

// find returns the manifest's URL once the search is complete. It tells each
// verified pointer when it arrives.
func find(ctx context.Context, rootFile string, bootstrap []string, defaults bool, arrived func(version int64)) (string, error) {
	raw, err := os.ReadFile(rootFile)
	if err != nil {
		return "", err
	}
	root, err := manifest.ParseRoot(raw)
	if err != nil {
		return "", err
	}
	verifier := manifest.Verifier{Root: root, Want: want}
	h, d, err := open(defaults)
	if err != nil {
		return "", err
	}
	defer h.Close()
	defer d.Close()
	if err := join(ctx, h, d, bootstrap); err != nil {
		return "", err
	}
	// Quorum 0, the default: all of the nearest peers are asked, as our own
	// search does.
	values, err := d.SearchValue(ctx, "/phase/"+want.Channel+"/"+want.Arch+"/manifest")
	if err != nil {
		return "", err
	}
	url := ""
	for value := range values {
		v, err := verifier.Pointer(value, time.Now())
		if err != nil {
			return "", err
		}
		arrived(v.Pointer().ManifestVersion)
		url = v.Pointer().URLs[0]
	}
	if url == "" {
		return "", errors.Join(errors.New("nothing found"), ctx.Err())
	}
	return url, nil
}

func open(defaults bool) (host.Host, *dht.IpfsDHT, error) {
	var ofHost []libp2p.Option
	ofDHT := []dht.Option{
		dht.Mode(dht.ModeClient),
		dht.ProtocolPrefix("/phase"),
		dht.Validator(record.NamespacedValidator{"phase": newest{}}),
	}
	if !defaults {
		ofHost = append(ofHost, libp2p.NoListenAddrs, libp2p.DisableRelay(), libp2p.DisableMetrics())
		ofDHT = append(ofDHT, dht.DisableAutoRefresh())
	}
	h, err := libp2p.New(ofHost...)
	if err != nil {
		return nil, nil, err
	}
	d, err := dht.New(h, ofDHT...)
	if err != nil {
		return nil, nil, errors.Join(err, h.Close())
	}
	return h, d, nil
}

// join connects to all bootstrap peers at once and returns when the first of them
// is in the routing table: a search before that fails.
func join(ctx context.Context, h host.Host, d *dht.IpfsDHT, bootstrap []string) error {
	table := d.RoutingTable()
	joined := make(chan struct{})
	var once sync.Once
	tell := table.PeerAdded
	table.PeerAdded = func(p peer.ID) { // nobody is connected yet, so nobody reads it now
		tell(p)
		once.Do(func() { close(joined) })
	}
	for _, address := range bootstrap {
		info, err := peer.AddrInfoFromString(address)
		if err != nil {
			return err
		}
		go func() {
			if err := h.Connect(ctx, *info); err != nil && ctx.Err() == nil {
				fmt.Fprintln(os.Stderr, "stock:", strings.ReplaceAll(err.Error(), "\n", " "))
			}
		}()
	}
	select {
	case <-joined:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("no bootstrap peer joined: %w", ctx.Err())
	}
}

// newest is the least that a validator has to do.
type newest struct{}

func (newest) Validate(_ string, value []byte) error {
	_, err := manifest.InspectPointer(value)
	return err
}

func (newest) Select(_ string, values [][]byte) (int, error) {
	best, top := -1, int64(0)
	for i, value := range values {
		if p, err := manifest.InspectPointer(value); err == nil && (best < 0 || p.ManifestVersion > top) {
			best, top = i, p.ManifestVersion
		}
	}
	if best < 0 {
		return 0, errors.New("no pointer")
	}
	return best, nil
}
