package main

import (
	"os"
	"time"

	"github.com/phasebased/phase/internal/boot"
	"github.com/phasebased/phase/internal/handover"
	"github.com/phasebased/phase/internal/sysinit"
	"github.com/phasebased/phase/internal/timeline"
	"github.com/phasebased/phase/manifest"
)

// ladder is the ways in which this boot may start another kernel. It is made
// anew each time: a person may have chosen another mode.
func (s *seed) ladder() handover.Ladder {
	l := handover.Plan(s.config.Handover, handover.ReadMachine(os.DirFS("/"), s.config.Arch), nil)
	l.Memory = sysinit.MemAvailable
	l.Tell = func(line string) { s.system.Console.Line("WARNING: " + line) }
	return l
}

// probe says before anything is downloaded whether this machine can start
// another kernel at all.
func (s *seed) probe() error {
	l := s.ladder()
	for _, note := range l.Notes {
		s.system.Console.Line("NOTE: " + note + ".")
	}
	s.system.Log.Info("hand-over", "rungs", l.Rungs, "not", l.Ruled)
	return l.Probe()
}

func (s *seed) fits(m manifest.Manifest, rootfsInCache bool) error {
	return s.ladder().Fits(m, rootfsInCache)
}

func (s *seed) load(set handover.Set) (boot.Loaded, error) {
	loaded, err := s.ladder().Load(set)
	if err != nil {
		return nil, err
	}
	s.system.Log.Info("hand-over", "by", loaded.Rung())
	return loaded, nil
}

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
