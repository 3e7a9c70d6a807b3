package system

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/phasebased/phase/internal/image"
)

// DirectConfig describes an image that starts the node system by itself: no
// seed, no discovery, no verification. It is the reference that benchmarks
// compare the corridor with.
type DirectConfig struct {
	Out      string            // the raw image to write
	Node     NodeSystem        // what to start
	Handover []byte            // /phase/handover.json as the seed would have written it
	Loader   map[string][]byte // files below /loader; entries name two initramfs files, see ESPPaths
}

// DirectImage builds the reference image. Its second initramfs is what the seed
// would have added at hand-over: handover.json and the root file system.
func (b *Build) DirectImage(ctx context.Context, cfg DirectConfig) (ImageReport, error) {
	start := time.Now()
	if err := b.check(); err != nil {
		return ImageReport{}, err
	}
	tmp, err := os.MkdirTemp("", "phase-direct-")
	if err != nil {
		return ImageReport{}, fmt.Errorf("system: %w", err)
	}
	defer os.RemoveAll(tmp)
	extra := filepath.Join(tmp, "extra.cpio")
	if err := b.handoverArchive(extra, cfg); err != nil {
		return ImageReport{}, err
	}
	esp, err := espTree([]Boot{{
		Arch: b.Inputs.Arch, Loader: b.Inputs.Loader,
		Kernel: cfg.Node.Kernel.Path, Initramfs: []string{cfg.Node.Initramfs.Path, extra},
	}}, menus{Loader: cfg.Loader})
	if err != nil {
		return ImageReport{}, err
	}
	d := &disk{name: "phase direct", time: b.Time, esp: esp}
	r, err := d.write(ctx, cfg.Out)
	if err != nil {
		return ImageReport{}, err
	}
	r.Files, err = reportFiles(esp)
	r.Took = time.Since(start)
	return r, err
}

// handoverArchive is not compressed: the root file system already is.
func (b *Build) handoverArchive(path string, cfg DirectConfig) error {
	t := &image.Tree{}
	t.Bytes("phase/handover.json", 0o644, cfg.Handover)
	t.File("phase/rootfs.img", 0o644, cfg.Node.Rootfs.Path)
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("system: %w", err)
	}
	defer f.Close()
	if err := image.WriteCPIO(f, t, b.Time); err != nil {
		return err
	}
	return f.Close()
}
