// Phase-discover finds the current boot manifest of a channel and architecture.
package main

import (
	"os"
	"time"

	"github.com/phasebased/phase/cmd/internal/steps"
	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/mdns"
	"github.com/phasebased/phase/internal/p2p"
)

func main() { os.Exit(run()) }

func run() int {
	env := steps.Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Now: time.Now}
	return steps.Discover(os.Args[1:], env, nets())
}

func nets() steps.DiscoverNets {
	return steps.DiscoverNets{DHT: openDHT, LAN: openLAN, CheckPeer: p2p.CheckBootstrap}
}

// openDHT makes a node that only asks, under an identity that is never stored.
func openDHT(bootstrap []string, dial fetch.DialFunc) (discover.Source, func() error, error) {
	node, err := p2p.New(p2p.Config{Bootstrap: bootstrap, Dial: dial})
	if err != nil {
		return nil, nil, err
	}
	return node, node.Close, nil
}

func openLAN(get discover.Get, wait time.Duration, peers *discover.Peers) discover.Source {
	return mdns.Source{Get: get, Wait: wait, Peers: peers}
}
