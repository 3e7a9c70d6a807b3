package system

import (
	"context"

	"github.com/phasebased/phase/internal/image"
)

// SeedConfig describes the seed, the small system a medium starts.
type SeedConfig struct {
	Out  string // the initramfs to write
	Pid1 string // the static phase-pid1 binary, which the kernel starts
	Init string // the static phase-init binary, which that keeps running
	Root []byte // root.json, the only thing the medium trusts
	// LogPolicy is a C2SP tlog-policy: the seed boots only releases that stand in
	// the log it names, with the witnesses it asks for. Empty: they need not.
	LogPolicy []byte
	WiFi      bool // carry what Inputs.WiFi holds and the drivers; the limit is higher by MaxSeedFirmware
	Shell     bool // carry Inputs.Shell; the limit is higher by MaxSeedShell
	Tor       bool // carry Inputs.Tor; the limit is higher by MaxSeedTor
}

// seedCommands are the names under which phase-init also answers.
var seedCommands = []string{"phase-discover", "phase-verify", "phase-fetch"}

// skeleton is what the kernel and PID 1 expect to find in any initramfs.
func skeleton(t *image.Tree) {
	for _, dir := range []string{"proc", "sys", "dev", "run", "etc", "mnt", "root"} {
		t.Dir(dir, 0o755)
	}
	t.Dir("tmp", 0o777)
	// The kernel opens it as the standard streams of /init before anything could
	// mount devtmpfs.
	t.CharDevice("dev/console", 0o600, 5, 1)
	t.CharDevice("dev/null", 0o666, 1, 3)
}

// Seed builds the initramfs of the seed.
func (b *Build) Seed(ctx context.Context, cfg SeedConfig) (Output, ModuleReport, error) {
	if err := b.check(); err != nil {
		return Output{}, ModuleReport{}, err
	}
	if err := checkRoot(cfg.Root); err != nil {
		return Output{}, ModuleReport{}, err
	}
	if err := checkLogPolicy(cfg.LogPolicy); err != nil {
		return Output{}, ModuleReport{}, err
	}
	for _, program := range []string{cfg.Pid1, cfg.Init} {
		if err := image.CheckProgram(program, b.Inputs.Arch); err != nil {
			return Output{}, ModuleReport{}, err
		}
	}
	t, report, err := b.seedTree(cfg)
	if err != nil {
		return Output{}, ModuleReport{}, err
	}
	out, err := b.initramfs(ctx, "seed", cfg.Out, t)
	if err == nil {
		err = b.checkLimit("the seed", out.Size, b.SeedLimit(cfg))
	}
	return out, report, err
}

func (b *Build) seedTree(cfg SeedConfig) (*image.Tree, ModuleReport, error) {
	info, err := document(b.info())
	if err != nil {
		return nil, ModuleReport{}, err
	}
	mods, err := b.modules(seedRequired, cfg.WiFi)
	if err != nil {
		return nil, ModuleReport{}, err
	}
	t := &image.Tree{}
	skeleton(t)
	t.File("init", 0o755, cfg.Pid1)
	t.File("bin/phase-init", 0o755, cfg.Init)
	for _, name := range seedCommands {
		t.Symlink("bin/"+name, "phase-init")
	}
	t.Bytes("phase/root.json", 0o644, cfg.Root)
	t.Bytes("phase/build.json", 0o644, info)
	if len(cfg.LogPolicy) > 0 {
		t.Bytes("phase/log-policy", 0o644, cfg.LogPolicy)
	}
	t.Bytes("etc/ssl/certs/ca-certificates.crt", 0o644, b.Inputs.CACerts)
	if cfg.WiFi {
		if err := b.addWiFi(t); err != nil {
			return nil, ModuleReport{}, err
		}
	}
	if err := b.addFirmware(t, mods, cfg.WiFi); err != nil {
		return nil, ModuleReport{}, err
	}
	if cfg.Shell {
		if err := b.addShell(t); err != nil {
			return nil, ModuleReport{}, err
		}
	}
	if cfg.Tor {
		if err := b.addTor(t, cfg.WiFi); err != nil {
			return nil, ModuleReport{}, err
		}
	}
	err = mods.addTo(t, b.Inputs.Kernel.Release)
	return t, mods.ModuleReport, err
}
