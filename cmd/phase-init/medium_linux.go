package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/phasebased/phase/cmd/internal/pid1"
	"github.com/phasebased/phase/internal/boot"
	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/store"
	"github.com/phasebased/phase/internal/strictjson"
	"github.com/phasebased/phase/internal/sysinit"
	"github.com/phasebased/phase/internal/timeline"
	"github.com/phasebased/phase/internal/tor"
	"github.com/phasebased/phase/internal/trust"
	"github.com/phasebased/phase/internal/version"
	"github.com/phasebased/phase/logproof"
	"github.com/phasebased/phase/manifest"
)

// Where the seed finds and keeps things. Trust comes from the initramfs alone.
const (
	rootFile   = "/phase/root.json"
	buildFile  = "/phase/build.json"
	logFile    = "/phase/log-policy"
	caFile     = "/etc/ssl/certs/ca-certificates.crt"
	seedDir    = pid1.RunDir + "/seed"
	cacheDir   = pid1.RunDir + "/cache"
	seedLabel  = "phase-seed"
	cacheLabel = "phase-cache"
	// On a disc, the seed partition's file system is a file.
	discVolume = "PHASE_BOOT"
	discDir    = pid1.RunDir + "/disc"
	discSeed   = discDir + "/phase/seed.squashfs"
)

// partitionWithin is how long the medium's partitions may take to appear: some
// USB sticks need seconds after their driver is loaded.
const partitionWithin = 10 * time.Second

// prepare reads what the medium says: whom to trust, how to boot, since when.
// It may be called again; what is known is not read twice.
func (s *seed) prepare(ctx context.Context) error {
	if s.image == nil {
		s.firmware()
		if err := s.trustAnchors(); err != nil {
			return err
		}
	}
	if s.config == nil {
		if err := s.configure(ctx); err != nil {
			return err
		}
	}
	if err := s.equip(ctx); err != nil {
		return err
	}
	if s.clock == nil {
		s.recall()
	}
	return nil
}

// firmware adds what the boot loader measured to the timeline, where it did.
func (s *seed) firmware() {
	if s.system.Modules != nil {
		if err := s.system.Modules.Load("efivarfs"); err != nil {
			s.system.Log.Debug("efivarfs", "error", err)
		}
	}
	vars := sysinit.EFIVars()
	if err := sysinit.MountAll("/", []sysinit.Filesystem{vars}); err != nil {
		s.system.Log.Debug("no firmware variables", "error", err)
		return
	}
	entered, left, err := timeline.FirmwareTimes(os.DirFS(vars.Target))
	if err != nil {
		s.system.Log.Debug("no times from the boot loader", "error", err)
		return
	}
	for _, stage := range timeline.FirmwareStages(entered, left) {
		s.system.Timeline.Add(stage)
	}
}

// image is what is part of the initramfs, and decides whom this boot trusts.
type image struct {
	root  *manifest.Root
	file  []byte           // of the root
	log   *logproof.Policy // nil: releases need not be logged
	build build
}

// build is build.json: what the image knows of itself.
type build struct {
	Version    string    `json:"version"`
	BuildTime  time.Time `json:"build_time"`
	Arch       string    `json:"arch"`
	Kernel     string    `json:"kernel"`
	MinVersion int64     `json:"min_manifest_version"`
}

// trustAnchors reads the root keys, the log policy, the version floor and the
// earliest time that are part of the image. None of them can be done without,
// but for the policy: if there is one it must be readable, for a rule that
// nobody can apply is not the same as no rule.
func (s *seed) trustAnchors() error {
	raw, err := os.ReadFile(rootFile)
	if err != nil {
		return fmt.Errorf("read the root keys of this medium: %w", err)
	}
	root, err := manifest.ParseRoot(raw)
	if err != nil {
		return fmt.Errorf("read the root keys of this medium: %w", err)
	}
	policy, err := readLogPolicy()
	if err != nil {
		return fmt.Errorf("read the log policy of this medium: %w", err)
	}
	b, err := readBuild()
	if err != nil {
		return err
	}
	s.system.Log.Info("image", "version", b.Version, "built", b.BuildTime, "kernel", b.Kernel, "logs", policy.Origins())
	s.image = &image{root, raw, policy, b}
	return nil
}

func readBuild() (b build, err error) {
	raw, err := os.ReadFile(buildFile)
	if err != nil {
		return b, fmt.Errorf("read %s: %w", buildFile, err)
	}
	if err := strictjson.Unmarshal(raw, &b, strictjson.Limits{Bytes: 4096, Depth: 2, RejectUnknown: true}); err != nil {
		return b, fmt.Errorf("read %s: %w", buildFile, err)
	}
	if arch, err := manifest.ParseArch(runtime.GOARCH); err != nil || b.Arch != arch || b.BuildTime.IsZero() || b.MinVersion < 0 {
		return b, fmt.Errorf("%s does not describe this machine's image: arch %q, built %v", buildFile, b.Arch, b.BuildTime)
	}
	return b, nil
}

// readLogPolicy returns nil only where the image has no policy at all.
func readLogPolicy() (*logproof.Policy, error) {
	raw, err := os.ReadFile(logFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return logproof.ParsePolicy(raw)
}

// recall begins with what this medium remembers of earlier boots: newer roots
// than its own, and the time. What cannot be read is said and done without.
func (s *seed) recall() {
	roots, err := boot.NewRoots(s.image.root, s.state)
	s.tell(err)
	s.roots = roots
	if newest := roots.Newest().Version(); newest > s.image.root.Version() {
		s.system.Console.Linef("The root keys were renewed since this medium was made: version %d holds.", newest)
	}
	stored, err := s.state.Time()
	s.tell(err)
	s.startClock(stored)
}

// tell shows a person what does not stop the boot.
func (s *seed) tell(err error) {
	if err != nil {
		s.system.Console.Line("WARNING: " + err.Error())
	}
}

// startClock judges the machine's clock and says so where it cannot be believed.
func (s *seed) startClock(stored time.Time) {
	machine := time.Now()
	s.clock = boot.NewClock(machine, s.image.build.BuildTime, stored)
	reading := s.clock.Reading()
	switch reading.State {
	case trust.Trusted:
		return
	case trust.Floored:
		s.system.Console.Linef("The clock shows %s, which cannot be; going on from %s.", machine.UTC().Format(time.RFC3339), reading)
	default:
		s.system.Console.Linef("WARNING: the clock cannot be believed: %s. Expiry dates cannot be judged by it.", reading)
	}
	s.setClock(reading.Time)
}

// setClock lets the kernel's clock follow ours, by which TLS judges
// certificates.
func (s *seed) setClock(now time.Time) { s.warn("set the clock", sysinit.SetClock(now)) }

// configure reads policy and bootstrap nodes from the seed partition. A medium
// without one (a network boot) goes by its command line and the defaults.
func (s *seed) configure(ctx context.Context) error {
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return fmt.Errorf("read the kernel's command line: %w", err)
	}
	arch, err := manifest.ParseArch(runtime.GOARCH)
	if err != nil {
		return err
	}
	if s.booted, err = whichBooted(string(cmdline), arch); err != nil {
		return err
	}
	if err := s.mountSeed(ctx); err != nil {
		return err
	}
	policy, err := readOptional(filepath.Join(seedDir, "policy.toml"))
	if err != nil {
		return err
	}
	bootstrap, err := readOptional(filepath.Join(seedDir, "bootstrap-nodes.toml"))
	if err != nil {
		return err
	}
	line := withMode(string(cmdline), modeFile)
	config, err := bootcfg.Parse(line, policy, bootstrap, arch)
	if err != nil {
		return err
	}
	if err := s.askFirst(ctx, config); err != nil {
		return err
	}
	line = withMode(string(cmdline), modeFile)
	if config, err = bootcfg.Parse(line, policy, bootstrap, arch); err != nil {
		return err
	}
	if policy == nil && torUndecided(line, config, tor.Program) {
		return errPolicyLost
	}
	if err := s.holdBack(config); err != nil {
		return err
	}
	s.config = &config
	s.system.Console.Header(fmt.Sprintf("Phase Boot %s - %s", version.Version, config.Mode.Title()),
		fmt.Sprintf("channel %s, %s, trusting root %d", config.Channel, config.Arch, s.image.root.Version()))
	for _, warning := range config.Warnings {
		s.system.Console.Line("WARNING: " + warning)
	}
	return nil
}

// holdBack lets the kernel hold what the mode promises of writing. What it cannot
// promise for certain ends a Private boot, before anybody on the network hears of
// it; that the disks are read-only on top is one promise more than there is.
func (s *seed) holdBack(c bootcfg.Config) error {
	s.warn("protect the disks", sysinit.SetDisksReadOnly("/", !c.MayWrite()))
	if c.Mode.MayWrite() {
		return nil
	}
	return sysinit.LeaveNoTrace("/")
}

// mountSeed mounts the medium's read-only partition: the one that the boot entry
// names, on whatever disk. Two of them are an error: nobody could say whose policy
// holds.
func (s *seed) mountSeed(ctx context.Context) error {
	wait, cancel := context.WithTimeout(ctx, partitionWithin)
	defer cancel()
	partitions, err := sysinit.WaitMedium(wait, seedLabel, discVolume, s.booted.is)
	for _, device := range s.booted.passed {
		s.system.Console.Linef("WARNING: %s is named %s and is not of the medium that was booted: it is not used.", device, seedLabel)
	}
	if err != nil {
		s.system.Console.Line("WARNING: going on without the medium's policy: " + err.Error())
		return nil
	}
	if len(partitions) > 1 {
		return &MediaError{Label: seedLabel, Partitions: partitions}
	}
	s.seedDisk, s.disc = partitions[0].Disk, partitions[0].Disc
	if s.disc {
		return s.mountDisc(partitions[0].Device)
	}
	if err := s.modules("squashfs"); err != nil {
		return err
	}
	return sysinit.MountDevice(partitions[0].Device, seedDir, "squashfs", true)
}

// mountDisc mounts the file that holds the seed partition's file system.
func (s *seed) mountDisc(device string) error {
	if err := s.modules("isofs", "loop", "squashfs"); err != nil {
		return err
	}
	if err := sysinit.MountDevice(device, discDir, "iso9660", true); err != nil {
		return err
	}
	loop, err := sysinit.AttachLoop(discSeed)
	if err != nil {
		return err
	}
	defer loop.Close()
	return sysinit.MountDevice(loop.Device, seedDir, "squashfs", true)
}

// modules loads drivers by name, where any are loaded by us.
func (s *seed) modules(names ...string) error {
	for _, name := range names {
		if s.system.Modules == nil {
			return nil
		}
		if err := s.system.Modules.Load(name); err != nil {
			return err
		}
	}
	return nil
}

func (s *seed) partitions(ctx context.Context, label string) ([]sysinit.Partition, error) {
	ctx, cancel := context.WithTimeout(ctx, partitionWithin)
	defer cancel()
	return sysinit.WaitPartition(ctx, label)
}

// equip makes the fetcher, and opens the cache where the mode allows one. A
// cache that cannot be used is said and done without.
func (s *seed) equip(ctx context.Context) error {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return fmt.Errorf("read the CA certificates: %w", err)
	}
	s.pool = x509.NewCertPool()
	s.pool.AppendCertsFromPEM(pem)
	fetcher := &fetch.Fetcher{LocalOnly: !s.config.Mode.MayUseWAN(), Gateways: s.config.Gateways, Log: s.system.Log}
	if fetcher.Client, err = s.client(); err != nil {
		return err
	}
	if s.viaTor() {
		fetcher.MinRate = tor.MinRate
	}
	switch {
	case s.config.Cache && s.disc:
		s.system.Console.Line("This medium is a disc: it keeps no downloads.")
	case s.config.Cache:
		if err := s.openCache(ctx, fetcher); err != nil {
			s.system.Console.Line("WARNING: going on without a cache: " + err.Error())
		}
	}
	s.fetcher = fetcher
	return nil
}

// setClient makes the fetcher ask by the configuration as it is now.
// A fetcher without a client would make one of its own.
func (s *seed) setClient() error {
	if s.fetcher == nil {
		return nil
	}
	client, err := s.client()
	if err == nil {
		s.fetcher.Client = client
	}
	return err
}

// openCache mounts the cache partition of this medium, and of no other disk.
func (s *seed) openCache(ctx context.Context, fetcher *fetch.Fetcher) error {
	partitions, err := s.partitions(ctx, cacheLabel)
	if err != nil {
		return err
	}
	if s.seedDisk != "" || s.booted.known() {
		partitions = slices.DeleteFunc(partitions, func(p sysinit.Partition) bool { return p.Disk != s.seedDisk })
	}
	if len(partitions) != 1 || partitions[0].Size <= 0 {
		return fmt.Errorf("%d usable partitions named %s on this medium", len(partitions), cacheLabel)
	}
	if err := os.MkdirAll(cacheDir, 0o755); err != nil {
		return err
	}
	if err := s.system.MountCache(partitions[0].Device, cacheDir); err != nil {
		return err
	}
	// A tenth is left to what package trust keeps, the node's state and the file system itself.
	size := partitions[0].Size
	limit := store.Limit{Bytes: size - size/10, Free: size / 50}
	if fetcher.Store, err = store.OpenLimited(filepath.Join(cacheDir, "store"), limit); err != nil {
		fetcher.Store = nil
		return errors.Join(err, sysinit.Unmount(cacheDir))
	}
	s.state = trust.OpenState(filepath.Join(cacheDir, pid1.StateDir))
	s.cacheDevice = partitions[0].Device
	s.identifyCache(s.cacheDevice)
	s.writeSoon()
	return nil
}

// writeSoon makes the kernel write what a download gave to the medium within about
// two seconds, instead of half a minute: that much a power cut takes away. What
// is remembered of releases does not rest on it, it is synced.
func (s *seed) writeSoon() {
	for knob, centiseconds := range map[string]string{"dirty_expire_centisecs": "200", "dirty_writeback_centisecs": "100"} {
		s.warn("write to the medium soon", os.WriteFile("/proc/sys/vm/"+knob, []byte(centiseconds), 0))
	}
}

// MediaError says that more than one medium of this kind is plugged in.
type MediaError struct {
	Label      string
	Partitions []sysinit.Partition
	// Late is set where the medium was chosen already, and Partitions are the others.
	Late bool
}

func (e *MediaError) Error() string {
	text := fmt.Sprintf("%d partitions are named %s:", len(e.Partitions), e.Label)
	if e.Late {
		text = "beside this medium's there is another " + e.Label + " that cannot be told from it:"
	}
	for _, p := range e.Partitions {
		text += " " + p.Device
	}
	return text
}

// Code is the error's number in docs/codes.md.
func (e *MediaError) Code() string { return "BOOT-010" }

// Hint says what to do next.
func (e *MediaError) Hint() string {
	return "Unplug the boot media that are not to be used, and restart the machine."
}

// readOptional reads a file of the medium, or nil where there is none. One byte
// above its parser's limit is enough for the parser to refuse it.
func readOptional(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, bootcfg.MaxFile+1))
}
