package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/phasebased/phase/internal/boot"
	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/netup"
	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/internal/sysinit"
)

// sources are where this boot may look, by its mode, and what closes them.
func (s *seed) sources(_ context.Context, _ *netup.Network) (out boot.Reach) {
	if s.config.Mode.MayUseDHT() && len(s.config.Bootstrap) > 0 {
		s.joinDHT(&out)
	}
	near, finders := s.neighbours()
	out.Search, out.Finders = append(out.Search, near...), append(out.Finders, finders...)
	for _, base := range s.config.Providers {
		out.Search = append(out.Search, &discover.HTTP{Base: base, Get: s.fetcher.Get})
	}
	return out
}

// joinDHT looks for releases in the DHT, and for machines that have announced their
// artifacts there. In Private mode it does not ask the latter: that would tell
// whoever cares to announce them what this machine boots.
func (s *seed) joinDHT(out *boot.Reach) {
	node, err := s.dht()
	if err != nil {
		s.system.Console.Line("WARNING: going on without the DHT: " + err.Error())
		return
	}
	if s.config.Network.Proxy != "" && !s.viaTor() {
		s.system.Console.Line("WARNING: mirrors are asked through the proxy, and the DHT directly: it cannot be asked through one.")
	}
	out.Search = append(out.Search, node)
	out.Close = func() {
		if err := node.Close(); err != nil {
			s.system.Log.Debug("close the DHT node", "error", err)
		}
	}
	if s.config.Mode == bootcfg.Internet {
		out.Finders = append(out.Finders, p2p.Finder{Node: node, HTTP: provider})
	}
}

// provider is a source by the base URL that a finder heard of.
func provider(base string) fetch.Source { return boot.Provider(base) }

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
