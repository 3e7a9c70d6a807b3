package main

import (
	"fmt"
	"os"

	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/handover"
	"github.com/phasebased/phase/internal/sysinit"
)

// identifyCache learns by what the next system tells this cache from others. One
// that cannot be told is used here, and by nobody after.
func (s *seed) identifyCache(device string) {
	s.cacheID = ""
	f, err := os.Open(device)
	if err == nil {
		defer f.Close()
		s.cacheID, err = sysinit.Ext4UUID(f)
	}
	if err != nil {
		s.system.Console.Line("WARNING: " + fmt.Sprintf("the next system will not find the cache: %v", err))
	}
}

// overlay is where the next system keeps what it writes over its root file system.
func (s *seed) overlay() string {
	if s.config.Overlay == bootcfg.OverlayCache && s.cacheID != "" {
		return handover.OverlayCache
	}
	return handover.OverlayMemory
}
