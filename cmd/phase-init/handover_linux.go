package main

import (
	"os"
	"strings"
	"time"

	"github.com/phasebased/phase/cmd/internal/pid1"
	"github.com/phasebased/phase/internal/boot"
	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/handover"
	"github.com/phasebased/phase/internal/oneshot"
	"github.com/phasebased/phase/internal/sysinit"
	"github.com/phasebased/phase/internal/timeline"
	"github.com/phasebased/phase/manifest"
)

// espDir is where the boot partition is mounted while it is written.
const espDir = pid1.RunDir + "/esp"

// ladder is the ways in which this boot may start another kernel. It is made
// anew each time: a person may have chosen another mode.
func (s *seed) ladder() handover.Ladder {
	var restart handover.Restarter // where nothing may be written, nobody could
	if s.config.MayWrite() {
		restart = &restarter{s.bootMedium(), s.system}
	}
	l := handover.Plan(s.config.Handover, silent(handover.ReadMachine(os.DirFS("/"), s.config.Arch), s.config.Mode), restart)
	l.Memory = sysinit.MemAvailable
	l.Tell = func(line string) { s.system.Console.Line("WARNING: " + line) }
	l.Pass = func(line string) { s.system.Log.Debug("hand-over", "passed", line) }
	return l
}

// silent lets the next kernel keep no last words in Private mode, whatever this one
// was started with: a person may have chosen the mode since.
func silent(m handover.Machine, mode bootcfg.Mode) handover.Machine {
	if !mode.MayWrite() {
		m.Cmdline = strings.TrimSpace(m.Cmdline) + " pstore.backend=" + sysinit.NoBackend
	}
	return m
}

// bootMedium is the medium that a restart would write to. It is kept from try to
// try: it knows whether the boot loader does as it is told.
func (s *seed) bootMedium() *oneshot.Medium {
	if s.medium == nil {
		cmdline, err := os.ReadFile("/proc/cmdline")
		s.warn("read the kernel's command line", err)
		s.medium = &oneshot.Medium{
			Arch: s.config.Arch, Told: oneshot.ParseTold(string(cmdline)), Vars: sysinit.EFIVars().Target, Dir: espDir, Reboot: func() error { return sysinit.WarmReboot(syncLimit) },
		}
		if s.system.Modules != nil {
			s.medium.LoadModule = s.system.LoadModule
		}
	}
	if s.seedDisk != "" {
		s.medium.Disks = []string{s.seedDisk}
	}
	return s.medium
}

// restarter tells a person what takes long, and what happens next.
type restarter struct {
	*oneshot.Medium
	system *pid1.System
}

func (r *restarter) Prepare(kernel, initrd *os.File, cmdline string) error {
	r.system.Console.Line("No kernel can start another here: writing the new system to this medium.")
	return r.Medium.Prepare(kernel, initrd, cmdline)
}

func (r *restarter) Restart() error {
	r.system.Console.Line("Restarting this machine: it starts the new system once, then this medium as before.")
	r.system.Flush(2 * time.Second)
	return r.Medium.Restart()
}

// tidy removes what an earlier restart has left on the medium, where something
// may be written.
func (s *seed) tidy() {
	if !s.config.MayWrite() || !s.bootMedium().Stale() {
		return
	}
	s.system.Console.Line("Removing what an earlier restart has left on this medium.")
	s.tell(s.bootMedium().Clear())
}

// probe says before anything is downloaded whether this machine can start
// another kernel at all.
func (s *seed) probe() error {
	s.tidy()
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
	if err := s.alone(); err != nil {
		return nil, err
	}
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
	s.letGo()
	return nil
}

// letGo closes what this walk has opened. The next one opens it again.
func (s *seed) letGo() {
	s.restartNetwork()
	if s.fetcher != nil && s.fetcher.Store != nil {
		s.warn("close the cache", s.fetcher.Store.Close())
		s.warn("unmount the cache", sysinit.Unmount(cacheDir))
	}
	s.fetcher, s.state = nil, nil
}
