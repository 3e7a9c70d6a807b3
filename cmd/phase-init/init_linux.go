package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/phasebased/phase/cmd/internal/pid1"
	"github.com/phasebased/phase/internal/boot"
	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/handover"
	"github.com/phasebased/phase/internal/netup"
	"github.com/phasebased/phase/internal/store"
	"github.com/phasebased/phase/internal/strictjson"
	"github.com/phasebased/phase/internal/sysinit"
	"github.com/phasebased/phase/internal/timeline"
	"github.com/phasebased/phase/internal/trust"
	"github.com/phasebased/phase/internal/version"
	"github.com/phasebased/phase/manifest"
)

// Where the seed finds and keeps things. Trust comes from the initramfs alone.
const (
	rootFile   = "/phase/root.json"
	buildFile  = "/phase/build.json"
	caFile     = "/etc/ssl/certs/ca-certificates.crt"
	seedDir    = pid1.RunDir + "/seed"
	cacheDir   = pid1.RunDir + "/cache"
	seedLabel  = "phase-seed"
	cacheLabel = "phase-cache"
	resolvConf = "/etc/resolv.conf"
)

const (
	// partitionWithin is how long the medium's partitions may take to appear:
	// some USB sticks need seconds after their driver is loaded.
	partitionWithin = 10 * time.Second
	retryAfter      = 60 * time.Second
	syncLimit       = 10 * time.Second
)

// runInit is PID 1's whole life. It does not return.
func runInit() {
	ctx := context.Background()
	system, err := pid1.Start(ctx, timeline.KernelSeed)
	seed := &seed{system: system, observer: newObserver(system)}
	if err != nil {
		system.Console.Line("WARNING: " + err.Error())
	}
	for {
		err := pid1.Guard(system.Log, func() error { return seed.walk(ctx) })
		seed.fail(ctx, err)
	}
}

// seed is what survives from one try to the next.
type seed struct {
	system   *pid1.System
	observer *observer
	config   bootcfg.Config
	clock    *boot.Clock
	root     *manifest.Root
	fetcher  *fetch.Fetcher
	floors   *trust.Floors
	network  *netup.Manager
	ready    bool
}

// walk prepares what is not prepared yet, then walks the corridor.
func (s *seed) walk(ctx context.Context) error {
	if !s.ready {
		stage := s.system.Timeline.Begin("medium")
		err := s.prepare(ctx)
		stage.End("", err)
		if err != nil {
			return err
		}
		s.ready = true
	}
	corridor := &boot.Corridor{
		Config: s.config, Root: s.root, Floors: s.floors, Fetcher: s.fetcher,
		Floor:   manifest.Floor{ManifestVersion: s.config.MinVersion},
		Network: s.bringUp, Sources: s.sources, Memory: sysinit.MemAvailable,
		Info: s.info, Load: s.load, Leave: s.leave, Clock: s.clock,
		Stages: s.system.Timeline.Stages, Observe: s.observer,
	}
	return corridor.Run(ctx)
}

// prepare reads what the medium says: whom to trust, how to boot, since when.
func (s *seed) prepare(ctx context.Context) error {
	s.firmware()
	build, err := s.trustAnchors()
	if err != nil {
		return err
	}
	s.clock = boot.NewClock(time.Now(), build)
	if s.clock.State() != trust.Trusted {
		s.system.Console.Linef("The clock shows %s, before this medium was made; going on from %s.",
			time.Now().UTC().Format(time.DateOnly), build.Format(time.DateOnly))
		if err := sysinit.SetClock(s.clock.Now()); err != nil {
			s.system.Log.Warn("set the clock", "error", err)
		}
	}
	if err := s.configure(ctx); err != nil {
		return err
	}
	s.system.Console.Header(fmt.Sprintf("Phase Boot %s - %s", version.Version, s.config.Mode.Title()),
		fmt.Sprintf("channel %s, %s, trusting root %d", s.config.Channel, s.config.Arch, s.root.Version()))
	for _, warning := range s.config.Warnings {
		s.system.Console.Line("WARNING: " + warning)
	}
	return s.equip(ctx)
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

// trustAnchors reads the root keys and when the medium was made.
func (s *seed) trustAnchors() (built time.Time, err error) {
	raw, err := os.ReadFile(rootFile)
	if err != nil {
		return built, fmt.Errorf("read the root keys of this medium: %w", err)
	}
	if s.root, err = manifest.ParseRoot(raw); err != nil {
		return built, fmt.Errorf("read the root keys of this medium: %w", err)
	}
	var build struct {
		Version   string    `json:"version"`
		BuildTime time.Time `json:"build_time"`
		Arch      string    `json:"arch"`
		Kernel    string    `json:"kernel"`
	}
	raw, err = os.ReadFile(buildFile)
	if err != nil {
		return built, fmt.Errorf("read %s: %w", buildFile, err)
	}
	if err := strictjson.Unmarshal(raw, &build, strictjson.Limits{Bytes: 4096, Depth: 2}); err != nil {
		return built, fmt.Errorf("read %s: %w", buildFile, err)
	}
	return build.BuildTime, nil
}

// configure reads policy and bootstrap nodes from the seed partition. A medium
// without one (a network boot) goes by its command line and the defaults.
func (s *seed) configure(ctx context.Context) error {
	cmdline, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return fmt.Errorf("read the kernel's command line: %w", err)
	}
	if _, err := s.mountPartition(ctx, seedLabel, seedDir, "squashfs", true); err != nil {
		s.system.Console.Line("WARNING: going on without the medium's policy: " + err.Error())
	}
	policy, err := readOptional(filepath.Join(seedDir, "policy.toml"))
	if err != nil {
		return err
	}
	bootstrap, err := readOptional(filepath.Join(seedDir, "bootstrap-nodes.toml"))
	if err != nil {
		return err
	}
	arch, err := manifest.ParseArch(goArch)
	if err != nil {
		return err
	}
	s.config, err = bootcfg.Parse(string(cmdline), policy, bootstrap, arch)
	return err
}

// equip opens the cache where the mode allows one and makes the fetcher.
func (s *seed) equip(ctx context.Context) error {
	pool := x509.NewCertPool()
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return fmt.Errorf("read the CA certificates: %w", err)
	}
	pool.AppendCertsFromPEM(pem)
	s.fetcher = &fetch.Fetcher{Client: fetch.NewClient(pool, nil), Log: s.system.Log}
	if !s.config.Cache {
		return nil
	}
	size, err := s.mountPartition(ctx, cacheLabel, cacheDir, "ext4", false)
	if err != nil {
		s.system.Console.Line("WARNING: going on without a cache: " + err.Error())
		return nil
	}
	s.floors = trust.OpenFloors(filepath.Join(cacheDir, "floors"))
	// A tenth is left to floors, the node's state and the file system itself.
	limit := store.Limit{Bytes: size - size/10}
	if s.fetcher.Store, err = store.OpenLimited(filepath.Join(cacheDir, "store"), limit); err != nil {
		s.system.Console.Line("WARNING: the cache cannot be used: " + err.Error())
		s.fetcher.Store = nil
	}
	return nil
}

// mountPartition mounts the one partition with that name and returns its size
// in bytes.
func (s *seed) mountPartition(ctx context.Context, label, target, fstype string, readOnly bool) (size int64, err error) {
	if s.system.Modules != nil {
		if err := s.system.Modules.Load(fstype); err != nil {
			return 0, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, partitionWithin)
	defer cancel()
	partitions, err := sysinit.WaitPartition(ctx, label)
	if err != nil {
		return 0, err
	}
	if len(partitions) > 1 {
		return 0, fmt.Errorf("%d partitions are named %s (%s, %s, …): remove the media that are not to be used",
			len(partitions), label, partitions[0].Device, partitions[1].Device)
	}
	if err := os.MkdirAll(target, 0o755); err != nil {
		return 0, err
	}
	return partitions[0].Size, sysinit.MountDevice(partitions[0].Device, target, fstype, readOnly)
}

// bringUp starts the network, or waits for it once more.
func (s *seed) bringUp(ctx context.Context) (*netup.Network, error) {
	if s.network != nil {
		return s.network.Wait(ctx)
	}
	cfg := netup.Config{
		Off: s.config.Network.Off, Timeout: s.config.Network.Timeout, LinkLocal: s.config.Network.LinkLocal,
		ResolvConf: resolvConf, Report: s.networkEvent,
	}
	for _, i := range s.config.Network.Interfaces {
		cfg.Interfaces = append(cfg.Interfaces, netup.Interface(i))
	}
	manager, network, err := netup.Up(ctx, cfg)
	s.network = manager
	return network, err
}

// networkEvent logs everything and shows what a person waits for.
func (s *seed) networkEvent(e netup.Event) {
	s.system.Log.Info("network", "event", e.String())
	switch e.State {
	case netup.NoCarrier, netup.Refused, netup.NoAnswer, netup.Lost, netup.Failed:
		s.system.Console.Line(e.String())
	}
}

// info is what the next system is told, but for the release.
func (s *seed) info(network *netup.Network) handover.Info {
	settings, err := json.Marshal(network)
	if err != nil {
		settings = nil // a Network always marshals; the next system does without
	}
	return handover.Info{
		SchemaVersion: handover.SchemaVersion, Mode: s.config.Mode.String(),
		Channel: s.config.Channel, Arch: s.config.Arch, Bootstrap: s.config.Bootstrap,
		Network: strictjson.Raw(settings), Cache: s.floors != nil,
	}
}

func (s *seed) load(set handover.Set) (boot.Loaded, error) { return handover.Load(set) }

// leave is the last act: everything is written and at rest before the jump. If
// the jump fails, the next try prepares anew.
func (s *seed) leave() error {
	s.ready = false
	s.system.Timeline.Send(timeline.Event{Event: timeline.EventHandover, Data: memoryUsed()})
	s.system.Console.Line("Starting the verified system.")
	s.system.Flush(2 * time.Second)
	if s.network != nil {
		if err := s.network.Down(); err != nil {
			s.system.Log.Warn("network down", "error", err)
		}
		s.network = nil
	}
	if s.fetcher.Store != nil {
		s.logIf("close the cache", s.fetcher.Store.Close())
	}
	for _, dir := range []string{cacheDir, seedDir} {
		if err := sysinit.Unmount(dir); err != nil {
			s.system.Log.Debug("unmount", "dir", dir, "error", err) // synced at the jump all the same
		}
	}
	return nil
}

// fail shows what went wrong and waits for a key or for the next try.
func (s *seed) fail(ctx context.Context, err error) {
	if err == nil {
		err = errors.New("the walk ended without a result")
	}
	failure := s.observer.failure(err)
	s.system.Log.Error("boot failed", "error", err)
	s.system.Timeline.Send(timeline.Event{Event: timeline.EventFailed, Code: failure.Code, Text: failure.Wrong})
	s.system.Console.Failure(failure)
	s.system.Flush(2 * time.Second)
	s.wait(ctx)
}

// wait ends with the key for another try, or after retryAfter.
func (s *seed) wait(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, retryAfter)
	defer cancel()
	keys := make(chan sysinit.Key)
	go sysinit.ReadKeys(ctx, s.system.Consoles(), keys)
	for {
		select {
		case key := <-keys:
			switch key.Byte {
			case 'r', 'R':
				return
			case 'b', 'B':
				s.logIf("reboot", sysinit.Reboot(syncLimit))
			case 'p', 'P':
				s.logIf("power off", sysinit.PowerOff(syncLimit))
			}
		case <-ctx.Done():
			return
		}
	}
}

func (s *seed) logIf(what string, err error) {
	if err != nil {
		s.system.Console.Linef("Could not %s: %v", what, err)
	}
}

// readOptional reads a file of the medium, or nil where there is none. Its size
// is bounded by its parser's own limit.
func readOptional(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	buffer := make([]byte, bootcfg.MaxFile+1)
	n := 0
	for n < len(buffer) {
		m, err := f.Read(buffer[n:])
		n += m
		if err != nil {
			break
		}
	}
	return buffer[:n], nil
}

const goArch = runtime.GOARCH
