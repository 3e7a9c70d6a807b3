package main

import (
	"log/slog"
	"testing"

	"github.com/phasebased/phase/internal/node"
)

func TestModeLimitsTheNetwork(t *testing.T) {
	for _, c := range []struct {
		mode            string
		listens, dials  bool
		withoutHandover bool
	}{
		{mode: "internet", listens: true, dials: true},
		{mode: "local", listens: true},
		{mode: "private", dials: true},
		{mode: "Internet"},
		{mode: ""},
		{withoutHandover: true, listens: true, dials: true},
	} {
		d := &daemon{log: slog.New(slog.DiscardHandler), booted: &node.Booted{Mode: c.mode, Bootstrap: []string{"c"}}}
		d.cfg.ListenAddrs, d.cfg.BootstrapPeers, d.cfg.PeerAddrs = []string{"l"}, []string{"a"}, []string{"b"}
		if c.withoutHandover {
			d.booted = nil
		}
		d.applyMode()
		dials := len(d.cfg.bootstrap()) > 0 || d.booted != nil && len(d.booted.Bootstrap) > 0
		if listens := len(d.cfg.ListenAddrs) > 0; listens != c.listens || dials != c.dials {
			t.Errorf("mode %q: listens %t, dials %t", c.mode, listens, dials)
		}
	}
}
