package main

import (
	"time"

	"github.com/phasebased/phase/internal/boot"
	"github.com/phasebased/phase/internal/handover"
	"github.com/phasebased/phase/internal/sysinit"
	"github.com/phasebased/phase/internal/timeline"
)

// probe says before anything is downloaded whether this machine can start
// another kernel at all.
func (s *seed) probe() error { return handover.Probe() }

func (s *seed) load(set handover.Set) (boot.Loaded, error) { return handover.Load(set) }

// leave is the last act: everything is written and at rest before the jump.
func (s *seed) leave() error {
	s.system.Timeline.Send(timeline.Event{Event: timeline.EventHandover, Data: memoryUsed()})
	s.system.Console.Line("Starting the verified system.")
	s.system.Flush(2 * time.Second)
	s.restartNetwork()
	if s.fetcher.Store != nil {
		s.warn("close the cache", s.fetcher.Store.Close())
		s.warn("unmount the cache", sysinit.Unmount(cacheDir))
	}
	s.fetcher, s.state = nil, nil
	return nil
}
