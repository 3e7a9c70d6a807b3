package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/phasebased/phase/cmd/internal/steps"
	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/mdns"
	"github.com/phasebased/phase/internal/netup"
	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/internal/sysinit"
)

// lanWait is how long the local network may take to answer: providers on it do
// within milliseconds, but nobody there says that there is nothing.
const lanWait = time.Second

// nets gives the discover step the networks that this program carries.
var nets = steps.DiscoverNets{
	DHT: func(bootstrap []string) (discover.Source, func() error, error) {
		node, err := p2p.New(p2p.Config{Bootstrap: bootstrap})
		if err != nil {
			return nil, nil, err
		}
		return node, node.Close, nil
	},
	LAN: func(get discover.Get, wait time.Duration) discover.Source { return mdns.Source{Get: get, Wait: wait} },
}

// sources are where this boot may look, by its mode, and what closes them.
func (s *seed) sources(_ context.Context, _ *netup.Network) ([]discover.Source, func()) {
	var sources []discover.Source
	end := func() {}
	mode := s.config.Mode
	if mode.MayUseDHT() && len(s.config.Bootstrap) > 0 {
		// A seed asks and does not answer; its identity lasts one boot. The
		// corridor verifies, and can say what was wrong, so the node has no root.
		node, err := p2p.New(p2p.Config{Bootstrap: s.config.Bootstrap, Log: s.system.Log})
		if err != nil {
			s.system.Console.Line("WARNING: going on without the DHT: " + err.Error())
		} else {
			end = func() {
				if err := node.Close(); err != nil {
					s.system.Log.Debug("close the DHT node", "error", err)
				}
			}
			sources = append(sources, node)
		}
	}
	if mode.MayUseLAN() {
		sources = append(sources, mdns.Source{Get: s.fetcher.Get, Wait: lanWait})
	}
	for _, base := range s.config.Providers {
		sources = append(sources, &discover.HTTP{Base: base, Get: s.fetcher.Get})
	}
	return sources, end
}

// memoryUsed is, as JSON, the most memory this process held and what the whole
// seed uses now, in bytes.
func memoryUsed() []byte {
	total, err1 := sysinit.MemTotal()
	available, err2 := sysinit.MemAvailable()
	if err1 != nil || err2 != nil {
		return nil
	}
	data, err := json.Marshal(map[string]int64{"init_peak_rss": peakRSS(), "used": total - available})
	if err != nil {
		return nil
	}
	return data
}

// peakRSS reads VmHWM of proc(5), in bytes; 0 where it cannot be read.
func peakRSS() int64 {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return 0
	}
	defer f.Close()
	for scanner := bufio.NewScanner(f); scanner.Scan(); {
		if value, ok := strings.CutPrefix(scanner.Text(), "VmHWM:"); ok {
			var kib int64
			if _, err := fmt.Sscanf(value, "%d kB", &kib); err == nil {
				return kib << 10
			}
		}
	}
	return 0
}
