package main

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"time"

	"github.com/phasebased/phase/cmd/internal/pid1"
	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/handover"
	"github.com/phasebased/phase/internal/netup"
	"github.com/phasebased/phase/internal/sysinit"
	"github.com/phasebased/phase/internal/timeline"
	"github.com/phasebased/phase/internal/trust"
	"github.com/phasebased/phase/internal/verity"
)

const (
	imageDir   = "/mnt/image"  // the root file system, read-only
	memoryDir  = "/mnt/memory" // what is written over it, if that is in memory
	newRoot    = "/newroot"    // both together
	stateDir   = "/var/lib/plasm"
	cacheDir   = "/mnt/cache"
	cacheLabel = "phase-cache"
	resolvConf = "/run/resolv.conf"
	bootedFile = pid1.RunDir + "/handover.json"
	proxyFile  = pid1.RunDir + "/proxy"
	eventsFile = pid1.RunDir + "/events"
	syncLimit  = 10 * time.Second
)

// partitionWithin is how long the cache may take to appear. The seed has just
// used it, so it is there or gone.
const partitionWithin = 5 * time.Second

func runInit() {
	ctx := context.Background()
	system, err := pid1.Start(ctx, timeline.KernelNode)
	if err != nil {
		system.Console.Line("WARNING: " + err.Error())
	}
	node := &node{system: system}
	err = pid1.Guard(system.Log, func() error { return node.run(ctx) })
	pid1.Guard(system.Log, func() error { node.fail(err); return nil })
	node.startAgain(err)
	select {} // PID 1 stays, so that what was shown can be read
}

type node struct {
	system *pid1.System
	info   handover.Info
	mode   bootcfg.Mode
	state  *trust.State // nil: no cache
	shown  bool         // the timeline was printed

	published bool   // publishedDir holds what was booted
	announced string // what was shown of that

	manager *netup.Manager
	radios  *pid1.Radios
	proxy   bootcfg.Proxy // the seed's, for plasmd; "": none
	rooted  atomic.Bool   // the root file system is entered

	cached    bool           // the cache partition is mounted
	image     *verity.Device // the root file system, where it is in the cache
	confirmed atomic.Bool    // this system has come up
	leaving   atomic.Bool    // another init takes over
}

// run builds the system and keeps it running; it returns only on failure.
func (n *node) run(ctx context.Context) error {
	if err := n.readInfo(); err != nil {
		return err
	}
	n.holdBack()
	n.setClock()
	n.manager = n.networkManager(ctx)
	n.system.Go("network manager", func() error { return n.manager.Run(ctx) })
	network := make(chan struct{})
	n.system.Go("network", func() error { n.bringUp(ctx, network); return nil })
	if err := n.dropEntry(ctx); err != nil {
		n.system.Console.Linef("WARNING: the boot entry that has started this system stays on the medium: %v", err)
	}
	root := n.system.Timeline.Begin("root")
	note, err := n.enterRoot(ctx)
	root.End(note, err)
	if err != nil {
		return err
	}
	n.system.Go("watch the root file system", func() error { return n.watchImage(ctx) })
	init, err := ownInit(os.Stat)
	if err != nil {
		return err
	}
	if init != "" {
		return n.become(ctx, init)
	}
	n.joinWireless(ctx)
	// What was written meanwhile went down with the old root.
	if err := n.manager.Resync(); err != nil {
		n.system.Log.Warn("name servers", "error", err)
	}
	if err := sysinit.SetHostname("phase"); err != nil {
		n.system.Log.Warn("host name", "error", err)
	}
	ephemeral := n.openState(ctx)
	if err := n.publish(); err != nil {
		n.system.Log.Warn("what was booted cannot be offered to others", "error", err)
	}
	return n.serve(ctx, ephemeral, network)
}

// readInfo learns from the seed what was booted. Without it (this kernel was
// started by something else) the node runs with the strictest limits.
func (n *node) readInfo() error {
	raw, err := os.ReadFile(handover.InfoPath)
	if errors.Is(err, os.ErrNotExist) {
		n.system.Console.Line("WARNING: no seed started this system; running in private mode")
		return nil
	}
	if err != nil {
		return err
	}
	if n.info, err = handover.ParseInfo(raw); err != nil {
		return err
	}
	n.mode, err = bootcfg.ParseMode(n.info.Mode)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(pid1.RunDir, 0o755); err != nil {
		return err
	}
	return writeBooted(n.info)
}

// writeBooted writes for plasmd what was booted. The network's configuration is
// no business of its, and may hold passphrases: it stays in this process. The
// documents have files of their own.
func writeBooted(info handover.Info) error {
	info.Network, info.Documents = nil, nil
	raw, err := info.Marshal()
	if err != nil {
		return err
	}
	return durable.WriteFile(bootedFile, raw, 0o600)
}

// holdBack lets the kernel hold what the mode promises of writing, as the seed did
// with its own. What this kernel cannot promise is said; it is running already.
func (n *node) holdBack() {
	if n.mode.MayWrite() {
		return
	}
	if err := sysinit.SetDisksReadOnly("/", true); err != nil {
		n.system.Log.Warn("protect the disks", "error", err)
	}
	if err := sysinit.LeaveNoTrace("/"); err != nil {
		n.system.Console.Line("WARNING: " + err.Error())
	}
}

// clockSlack is how far ahead of the seed's clock this machine's may be without
// being set back: a second kernel takes seconds to start.
const clockSlack = 10 * time.Minute

// setClock takes over what the seed learned of the time, where that is later: a
// machine without a clock of its own would sign receipts from 1970. Only a time
// that the seed could believe sets a clock back.
func (n *node) setClock() {
	ahead := time.Since(n.info.Clock)
	behind := ahead < 0
	wrong := n.info.ClockState == trust.Trusted.String() && ahead > clockSlack
	if n.info.Clock.IsZero() || !behind && !wrong {
		return
	}
	if err := sysinit.SetClock(n.info.Clock); err != nil {
		n.system.Log.Warn("set the clock", "error", err)
	}
}

// bringUp starts the network, which then keeps itself up for as long as the
// node runs, and closes done when it is up or has failed for now.
func (n *node) bringUp(ctx context.Context, done chan<- struct{}) {
	defer close(done)
	stage := n.system.Timeline.Begin("network")
	_, err := n.manager.Wait(ctx)
	if n.leaving.Load() {
		err = nil
	}
	stage.End("", err)
	if err != nil {
		n.system.Console.Line("WARNING: " + err.Error())
	}
}

// network is what the seed's configuration says, or the default.
func (n *node) network() bootcfg.Network {
	network := bootcfg.Default(n.info.Arch).Network
	if len(n.info.Network) == 0 {
		return network
	}
	earlier, err := pid1.ReadNetwork(n.info.Network)
	if err != nil {
		n.system.Log.Warn("going on without them", "error", err)
		return network
	}
	return earlier
}

// networkManager repeats what was configured in the seed; without a word from
// it every interface asks by DHCP.
func (n *node) networkManager(ctx context.Context) *netup.Manager {
	network := n.network()
	n.proxy = network.Proxy
	cfg := pid1.NetworkConfig(network, n.mode)
	cfg.Claims = pid1.ReadClaims(n.info.Network)
	cfg.ResolvConf, cfg.LoadModule = resolvConf, n.system.LoadModule
	n.radios = n.system.NewRadios(network.WiFi, cfg.RandomMAC)
	cfg.Report = func(e netup.Event) {
		if e.State == netup.Found && n.rooted.Load() {
			n.radios.Found(ctx, e.Interface)
		}
	}
	return netup.New(cfg)
}

// joinWireless joins the networks that the seed could join, where this system
// carries what it takes: in its root file system, outside of which the program
// could not answer once that is entered.
func (n *node) joinWireless(ctx context.Context) {
	n.rooted.Store(true)
	if err := n.radios.Check(); err != nil {
		n.system.Log.Warn("Wi-Fi", "error", err)
	}
	for _, name := range n.radios.Interfaces() {
		n.radios.Found(ctx, name)
	}
}

// fail says what went wrong. The machine stays as it is, for a person to read;
// the kernel's panic= does not apply, because PID 1 does not end.
func (n *node) fail(err error) {
	if err == nil {
		err = errors.New("the node ended")
	}
	n.system.Log.Error("node failed", "error", err)
	shown := stopped(err)
	n.system.Timeline.Send(timeline.Event{Event: timeline.EventFailed, Stage: "node", Code: shown.Code, Text: err.Error()})
	n.system.Console.Failure(shown)
	n.system.Flush(2 * time.Second)
}
