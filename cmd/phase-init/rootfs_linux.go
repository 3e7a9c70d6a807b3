package main

import (
	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/handover"
	"github.com/phasebased/phase/internal/sysinit"
)

// identifyCache learns by what the next system tells this cache from others. One
// that cannot be told is used here, and by nobody after.
func (s *seed) identifyCache(device string) {
	var err error
	if s.cacheID, err = sysinit.VolumeUUID(device); err != nil {
		s.system.Console.Linef("WARNING: the next system will not find the cache: %v", err)
	}
}

// overlay is where the next system keeps what it writes over its root file system.
func (s *seed) overlay() string {
	if s.config.Overlay == bootcfg.OverlayCache && s.cacheID != "" {
		return handover.OverlayCache
	}
	return handover.OverlayMemory
}
