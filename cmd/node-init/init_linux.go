package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/phasebased/phase/cmd/internal/pid1"
	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/handover"
	"github.com/phasebased/phase/internal/netup"
	"github.com/phasebased/phase/internal/sysinit"
	"github.com/phasebased/phase/internal/timeline"
)

const (
	imageDir   = "/mnt/image"  // the root file system, read-only
	memoryDir  = "/mnt/memory" // what is written over it
	newRoot    = "/newroot"    // both together
	stateDir   = "/var/lib/plasm"
	cacheDir   = "/mnt/cache"
	cacheLabel = "phase-cache"
	resolvConf = "/run/resolv.conf"
	bootedFile = pid1.RunDir + "/handover.json"
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
	node.fail(err)
	<-ctx.Done() // never: PID 1 stays, so that what was shown can be read
}

type node struct {
	system *pid1.System
	info   handover.Info
	mode   bootcfg.Mode
	shown  bool // the timeline was printed
}

// run builds the system and keeps it running; it returns only on failure.
func (n *node) run(ctx context.Context) error {
	if err := n.readInfo(); err != nil {
		return err
	}
	network := make(chan struct{})
	go n.bringUp(ctx, network)
	root := n.system.Timeline.Begin("root")
	err := n.enterRoot()
	root.End("overlay in memory over a read-only image", err)
	if err != nil {
		return err
	}
	if err := sysinit.SetHostname("phase"); err != nil {
		n.system.Log.Warn("host name", "error", err)
	}
	ephemeral := n.openState(ctx)
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
	return durable.WriteFile(bootedFile, raw, 0o644)
}

// enterRoot mounts the root file system under an overlay and moves into it.
func (n *node) enterRoot() error {
	if err := n.system.Modules.Load("loop", "squashfs", "overlay"); err != nil {
		return fmt.Errorf("load the drivers of the root file system: %w", err)
	}
	for _, dir := range []string{imageDir, memoryDir, newRoot} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	loop, err := sysinit.AttachLoop(handover.RootfsPath)
	if err != nil {
		return err
	}
	defer loop.Close()
	if err := sysinit.MountImage(loop.Device, imageDir, "squashfs"); err != nil {
		return err
	}
	if err := sysinit.MountTmpfs(memoryDir, 0); err != nil {
		return err
	}
	err = sysinit.MountOverlay(imageDir, filepath.Join(memoryDir, "upper"), filepath.Join(memoryDir, "work"), newRoot)
	if err != nil {
		return err
	}
	return sysinit.SwitchRoot(newRoot)
}

// openState mounts the cache where the mode keeps an identity and the seed had one, and reports
// whether this boot must do without.
func (n *node) openState(ctx context.Context) (ephemeral bool) {
	if !n.mode.PersistentIdentity() || !n.info.Cache {
		return true
	}
	if err := n.mountCache(ctx); err != nil {
		n.system.Log.Info("no cache; this boot's identity is not kept", "error", err)
		return true
	}
	return false
}

func (n *node) mountCache(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, partitionWithin)
	defer cancel()
	partitions, err := sysinit.WaitPartition(ctx, cacheLabel)
	if err != nil {
		return err
	}
	if len(partitions) != 1 {
		return fmt.Errorf("%d partitions are named %s", len(partitions), cacheLabel)
	}
	if err := os.MkdirAll(cacheDir, 0o755); err != nil {
		return err
	}
	if err := sysinit.MountDevice(partitions[0].Device, cacheDir, "ext4", false); err != nil {
		return err
	}
	state := filepath.Join(cacheDir, "plasm")
	if err := os.MkdirAll(state, 0o700); err != nil {
		return err
	}
	return syscall.Mount(state, stateDir, "", syscall.MS_BIND, "")
}

// bringUp starts the network, which then keeps itself up for as long as the
// node runs, and closes done when it is up or has failed for now.
func (n *node) bringUp(ctx context.Context, done chan<- struct{}) {
	defer close(done)
	stage := n.system.Timeline.Begin("network")
	_, _, err := netup.Up(ctx, n.networkConfig())
	stage.End("", err)
	if err != nil {
		n.system.Console.Line("WARNING: " + err.Error())
	}
}

// networkConfig repeats what was set by hand in the seed, and DHCP elsewhere.
func (n *node) networkConfig() netup.Config {
	cfg := netup.Config{LinkLocal: true, ResolvConf: resolvConf}
	if len(n.info.Network) > 0 {
		if earlier, err := netup.ParseNetwork(n.info.Network); err != nil {
			n.system.Log.Warn("network settings of the seed", "error", err)
		} else {
			cfg.Interfaces = earlier.Static()
		}
	}
	return cfg
}

// fail says what went wrong. The machine stays as it is, for a person to read;
// the kernel's panic= does not apply, because PID 1 does not end.
func (n *node) fail(err error) {
	if err == nil {
		err = errors.New("the node ended")
	}
	n.system.Log.Error("node failed", "error", err)
	n.system.Timeline.Send(timeline.Event{Event: timeline.EventFailed, Stage: "node", Code: "NODE-001", Text: err.Error()})
	n.system.Console.Failure(failure(err))
	n.system.Flush(2 * time.Second)
}
