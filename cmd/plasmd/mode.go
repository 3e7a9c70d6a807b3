package main

import (
	"log/slog"
	"slices"

	"github.com/phasebased/phase/internal/fetch"
)

// limits are what the modes of a boot forbid the node. The zero value forbids
// nothing: a node on a plain host, or in Internet mode.
type limits struct {
	// local, of Local mode: nobody beyond the local network is contacted, by
	// whatever name or on whoever's word.
	local bool
	// quiet, of Private mode: the node does not listen, announces nothing, has
	// an identity of its own for each start, and gives its receipts only to
	// whoever watches its events.
	quiet bool
	// silent, of a boot through Tor: nobody is contacted at all. The node has no
	// Tor, and what it asks directly would undo what the seed has hidden.
	silent bool
}

// limitsOf joins what the modes forbid, so that the strictest of each counts.
// A name that is none gets the limits of Private mode.
func limitsOf(modes []string, log *slog.Logger) (l limits) {
	for _, mode := range modes {
		switch mode {
		case "internet":
		case "local":
			l.local = true
		case "private":
			l.quiet = true
		default:
			log.Warn("not a mode (internet, local, private); working with the limits of private mode", "mode", mode)
			l.quiet = true
		}
	}
	return l
}

// applyModes keeps the promises of the modes that were asked for and of the one
// that this machine was booted in.
func (d *daemon) applyModes(asked []string) {
	modes := slices.Clone(asked)
	if d.booted != nil {
		modes = append(modes, d.booted.Mode)
	}
	d.limits = limitsOf(modes, d.log)
	if d.booted != nil && d.booted.Tor {
		d.limits.quiet, d.limits.silent = true, true
		d.cfg.BootstrapPeers, d.cfg.PeerAddrs, d.cfg.Providers = nil, nil, nil
		d.booted.Bootstrap, d.booted.Bases = nil, nil
	}
	if d.limits.local {
		d.cfg.BootstrapPeers, d.cfg.PeerAddrs = nil, nil
		d.cfg.Providers = d.onlyLocal(d.cfg.Providers)
		if d.booted != nil {
			d.booted.Bootstrap, d.booted.Bases = nil, d.onlyLocal(d.booted.Bases)
		}
	}
	if d.limits.quiet {
		d.cfg.ListenAddrs = nil
	}
	if d.limits != (limits{}) {
		d.log.Info("the mode limits the network", "modes", modes, "listen", d.cfg.ListenAddrs, "bootstrap", d.cfg.bootstrap(), "providers", d.bases())
	}
}

// onlyLocal keeps the base URLs on the local network.
func (d *daemon) onlyLocal(bases []string) []string {
	var kept []string
	for _, base := range bases {
		if err := fetch.CheckLocal(base); err != nil {
			d.log.Warn("provider not used", "base", base, "err", err)
			continue
		}
		kept = append(kept, base)
	}
	return kept
}
