package main

import (
	"crypto/ed25519"
	"log/slog"
	"net/http"
	"time"

	"github.com/phasebased/phase/cmd/internal/steps"
	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/mdns"
	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/manifest"
)

// This file is the only place where a boot makes what connects to other machines
// over HTTP and in the DHT, and where multicast DNS is asked. So a boot through Tor
// can have nothing that goes round it: see TestOneDoor.

// client asks over HTTP: through Tor in a boot that must, else through the proxy if
// there is one.
func (s *seed) client() (*http.Client, error) {
	if s.viaTor() {
		dialer, err := s.torDialer("http")
		if err != nil {
			return nil, err
		}
		return fetch.NewClientThrough(s.pool, dialer.DialContext), nil
	}
	proxy, err := fetch.Proxy(string(s.config.Network.Proxy))
	if err != nil {
		return nil, err
	}
	if !s.config.Mode.MayUseWAN() {
		return fetch.NewLocalClient(s.pool, proxy), nil
	}
	return fetch.NewClient(s.pool, proxy), nil
}

// dht is a node that asks and does not answer, with an identity that lasts one boot.
func (s *seed) dht() (*p2p.Node, error) {
	cfg := p2p.Config{Bootstrap: s.config.Bootstrap, Signers: s.timestampKeys, Log: s.system.Log}
	if s.viaTor() {
		dialer, err := s.torDialer("dht")
		if err != nil {
			return nil, err
		}
		cfg.Dial = dialer.DialContext
	}
	return p2p.New(cfg)
}

// timestampKeys are those of the newest root that is known: who signs the pointers that
// this machine looks for. A private one names nobody, as that tells whose releases it
// boots.
func (s *seed) timestampKeys() []ed25519.PublicKey {
	if s.roots == nil || s.config.Mode == bootcfg.Private {
		return nil
	}
	role, _ := s.roots.Newest().Keys(manifest.RoleTimestamp)
	return role.Keys
}

// neighbours asks the local network, and looks there for machines that have a file;
// both are nothing where this boot is to be silent on it.
func (s *seed) neighbours() ([]discover.Source, []fetch.Finder) {
	if s.viaTor() || !s.config.Mode.MayUseLAN() {
		return nil, nil
	}
	reach := nets(s.system.Log, s.timestampKeys)
	if !s.config.Mode.MayUseDHT() {
		reach.DHT = nil
	}
	query := discover.Query{Channel: s.config.Channel, Arch: s.config.Arch}
	return reach.Neighbours(s.fetcher.Get, lanWait(s.config.Mode, len(s.config.Providers) > 0)), []fetch.Finder{mdns.NewFinder(query, provider)}
}

// lanWait is how long the local network may take to answer: providers on it do
// within milliseconds, but nobody there says that there is nothing. Where nothing
// else is asked it may take longer: the question is repeated after a second
// (RFC 6762, section 5.2), and a wireless network may lose the first one.
func lanWait(mode bootcfg.Mode, others bool) time.Duration {
	if mode == bootcfg.Local && !others {
		return 3 * time.Second
	}
	return time.Second
}

// nets are the networks that this program carries, for the commands that it also is.
func nets(log *slog.Logger, signers func() []ed25519.PublicKey) steps.DiscoverNets {
	return steps.DiscoverNets{
		// A node that asks and does not answer, with an identity that lasts one
		// boot. Who uses it verifies, and can say what was wrong, so it has no root.
		DHT: func(bootstrap []string, dial fetch.DialFunc) (discover.Source, func() error, error) {
			node, err := p2p.New(p2p.Config{Bootstrap: bootstrap, Dial: dial, Signers: signers, Log: log})
			if err != nil {
				return nil, nil, err
			}
			return node, node.Close, nil
		},
		LAN: func(get discover.Get, wait time.Duration, peers *discover.Peers) discover.Source {
			return mdns.Source{Get: get, Wait: wait, Peers: peers}
		},
		CheckPeer: p2p.CheckBootstrap,
	}
}
