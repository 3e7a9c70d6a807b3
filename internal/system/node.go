package system

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/manifest"
)

// NodeConfig describes the node system, the one that is published, fetched,
// verified and handed over to.
type NodeConfig struct {
	Dir      string            // where kernel, initramfs and rootfs are written
	Init     string            // the static node-init binary
	Plasmd   string            // the static plasmd binary
	Jail     string            // the static plasm-jail binary; "" does without
	Config   []byte            // /etc/plasm/config.json
	Jobs     map[string][]byte // files of /usr/share/phase/jobs, hello.json among them
	Hostname string            // "" means "phase"
	WiFi     bool              // carry what Inputs.WiFi holds and the drivers; the limit is higher by MaxRootfsFirmware
	Format   string            // of the root file system: FormatSquashfs, the default, or FormatEROFS
	NoVerity bool              // the root file system gets no hash tree, and is always loaded into memory
}

// NodeSystem is what is published.
type NodeSystem struct {
	Kernel, Initramfs, Rootfs Output
	Verity                    *manifest.Verity // the hash tree in Rootfs; nil: it has none
	Modules                   ModuleReport
}

// Node builds the node system. Initramfs and root file system are written at
// the same time.
func (b *Build) Node(ctx context.Context, cfg NodeConfig) (NodeSystem, error) {
	if err := b.check(); err != nil {
		return NodeSystem{}, err
	}
	for _, prog := range []string{cfg.Init, cfg.Plasmd} {
		if err := image.CheckProgram(prog, b.Inputs.Arch); err != nil {
			return NodeSystem{}, err
		}
	}
	if len(cfg.Config) == 0 || len(cfg.Jobs["hello.json"]) == 0 {
		return NodeSystem{}, fmt.Errorf("system: the node needs a config.json and the job hello.json")
	}
	mods, err := b.modules(nodeRequired, cfg.WiFi)
	if err != nil {
		return NodeSystem{}, err
	}
	return b.writeNode(ctx, cfg, mods)
}

func (b *Build) writeNode(ctx context.Context, cfg NodeConfig, mods *moduleSet) (NodeSystem, error) {
	initramfs, err := b.nodeInitramfs(cfg, mods)
	if err != nil {
		return NodeSystem{}, err
	}
	rootfs, err := b.nodeRootfs(cfg, mods)
	if err != nil {
		return NodeSystem{}, err
	}
	sys := NodeSystem{Modules: mods.ModuleReport}
	err = together(
		func() (err error) { sys.Kernel, err = b.copyKernel(filepath.Join(cfg.Dir, "kernel")); return },
		func() (err error) {
			sys.Initramfs, err = b.initramfs(ctx, "node", filepath.Join(cfg.Dir, "initramfs"), initramfs)
			return
		},
		func() (err error) {
			sys.Rootfs, sys.Verity, err = b.rootfs(ctx, cfg, rootfs)
			return
		})
	if err == nil {
		err = b.checkLimit("the root file system", sys.Rootfs.Size, b.RootfsLimit(cfg))
	}
	return sys, err
}

// together runs steps at the same time and returns the error of the first one,
// in their order, that failed.
func together(steps ...func() error) error {
	errs := make([]error, len(steps))
	var wg sync.WaitGroup
	for i, step := range steps {
		wg.Go(func() { errs[i] = step() })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *Build) copyKernel(to string) (Output, error) {
	err := place(to+".partial", to, func(tmp string) error { return copyFile(tmp, b.Inputs.Kernel.Image) })
	if err != nil {
		return Output{}, err
	}
	d, n, err := digestFile(to)
	return Output{Path: to, Size: n, Digest: d}, err
}

func (b *Build) nodeInitramfs(cfg NodeConfig, mods *moduleSet) (*image.Tree, error) {
	info, err := document(b.info())
	if err != nil {
		return nil, err
	}
	t := &image.Tree{}
	skeleton(t)
	t.File("init", 0o755, cfg.Init)
	t.Bytes("phase/build.json", 0o644, info)
	if cfg.WiFi {
		if err := b.addWiFi(t); err != nil {
			return nil, err
		}
	}
	if err := b.addFirmware(t, mods, cfg.WiFi); err != nil {
		return nil, err
	}
	return t, mods.addTo(t, b.Inputs.Kernel.Release)
}

// nodeRootfs has no shell and no package manager: the node is one program. The
// modules are here a second time for devices that appear later; the initramfs is
// gone by then.
func (b *Build) nodeRootfs(cfg NodeConfig, mods *moduleSet) (*image.Tree, error) {
	info, err := document(b.info())
	if err != nil {
		return nil, err
	}
	hostname := cfg.Hostname
	if hostname == "" {
		hostname = "phase"
	}
	t := &image.Tree{}
	for _, dir := range []string{"proc", "sys", "dev", "run", "mnt", "var/lib/plasm", "var/log", "etc"} {
		t.Dir(dir, 0o755)
	}
	t.Dir("tmp", 0o777)
	t.Dir("root", 0o700)
	t.File("usr/bin/plasmd", 0o755, cfg.Plasmd)
	if cfg.Jail != "" {
		t.File("usr/lib/plasm/plasm-jail", 0o755, cfg.Jail)
	}
	t.Symlink("bin", "usr/bin")
	for name, text := range map[string]string{
		"etc/passwd":     "root:x:0:0:root:/root:/usr/bin/plasmd\nplasm:x:900:900:Phase node:/var/lib/plasm:/usr/bin/plasmd\n",
		"etc/group":      "root:x:0:\nplasm:x:900:\n",
		"etc/hostname":   hostname + "\n",
		"etc/hosts":      "127.0.0.1 localhost\n::1 localhost\n",
		"etc/os-release": fmt.Sprintf("ID=phase\nNAME=\"Phase\"\nPRETTY_NAME=\"Phase %s\"\nVERSION_ID=%q\n", b.Version, b.Version),
	} {
		t.Bytes(name, 0o644, []byte(text))
	}
	t.Symlink("etc/resolv.conf", "/run/resolv.conf")
	t.Bytes("etc/plasm/config.json", 0o644, cfg.Config)
	t.Bytes("etc/ssl/certs/ca-certificates.crt", 0o644, b.Inputs.CACerts)
	t.Bytes("usr/share/phase/build.json", 0o644, info)
	for name, data := range cfg.Jobs {
		t.Bytes("usr/share/phase/jobs/"+name, 0o644, data)
	}
	if cfg.WiFi {
		if err := b.addWiFi(t); err != nil {
			return nil, err
		}
	}
	if err := b.addFirmware(t, mods, cfg.WiFi); err != nil {
		return nil, err
	}
	return t, mods.addTo(t, b.Inputs.Kernel.Release)
}
