package system

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/guid"
	"github.com/phasebased/phase/internal/image"
)

// DefaultCache is the size in bytes of the cache partition if none is asked for.
const DefaultCache = 1 << 30

// USBConfig describes the medium: an EFI system partition with the seed, a
// read-only partition with its policy, and a cache.
type USBConfig struct {
	Out       string            // the raw image to write
	Name      string            // what its identifiers are derived from: other media should have others; "": one for all
	Boots     []Boot            // what to start, by architecture
	With      []*Build          // the builds of further architectures; their time, version and floor are this one's
	Loader    map[string][]byte // files below /loader on the EFI system partition, for systemd-boot
	Grub      []byte            // grub.cfg, for ChainStock
	Root      []byte            // root.json
	Policy    []byte            // policy.toml
	Bootstrap []byte            // bootstrap-nodes.toml
	Cache     int64             // bytes of the cache partition; 0 means DefaultCache, -1 none
}

// An ImageReport says what an image holds.
type ImageReport struct {
	Path       string
	Size       int64 // bytes of the image; most of them are holes
	Partitions []image.Partition
	Files      []FileReport // on the EFI system partition, sorted
	Materials  []Material   // of others, that are in it
	Kernel     string       // the seed's: its release, as in uname -r
	Took       time.Duration
}

// A FileReport is a file on the EFI system partition.
type FileReport struct {
	Path   string      `json:"path"`
	Size   int64       `json:"size"`
	SHA256 blob.Digest `json:"sha256"`
}

// billOfMaterials is /materials.json on the seed partition.
type billOfMaterials struct {
	Materials []Material   `json:"materials"` // foreign parts
	ESP       []FileReport `json:"esp"`       // what lies on the EFI system partition
}

// USBImage builds the medium.
func (b *Build) USBImage(ctx context.Context, cfg USBConfig) (ImageReport, error) {
	start := time.Now()
	if err := b.check(); err != nil {
		return ImageReport{}, err
	}
	if err := checkRoot(cfg.Root); err != nil {
		return ImageReport{}, err
	}
	if err := b.checkWith(cfg.With); err != nil {
		return ImageReport{}, err
	}
	esp, err := espTree(cfg.Boots, menus{Loader: cfg.Loader, Grub: cfg.Grub})
	if err != nil {
		return ImageReport{}, err
	}
	files, err := reportFiles(esp)
	if err != nil {
		return ImageReport{}, err
	}
	seed, err := b.seedPartition(cfg, files)
	if err != nil {
		return ImageReport{}, err
	}
	tmp, err := os.MkdirTemp("", "phase-image-")
	if err != nil {
		return ImageReport{}, fmt.Errorf("system: %w", err)
	}
	defer os.RemoveAll(tmp)
	fixed := filepath.Join(tmp, "seed.squashfs")
	if _, err := b.squashfs(ctx, "policy", fixed, seed); err != nil {
		return ImageReport{}, err
	}
	d := &disk{name: mediumName(cfg.Name), time: b.Time, esp: esp, seed: fixed, cache: cacheSize(cfg.Cache)}
	r, err := d.write(ctx, cfg.Out)
	r.Files, r.Materials, r.Kernel, r.Took = files, b.Materials(cfg.With...), b.Inputs.Kernel.Release, time.Since(start)
	return r, err
}

func mediumName(name string) string { return strings.TrimSpace("phase usb " + name) }

// SeedID is the unique GUID that the seed partition of a medium gets, by USBConfig.Name.
func SeedID(name string) guid.GUID { return image.DeriveGUID(mediumName(name), seedLabel) }

// Used is what of a partition is in use, in bytes, as far as the builder has filled it.
func (r ImageReport) Used(p image.Partition) (used int64) {
	switch p.Label {
	case "phase-cache":
	case "phase-esp":
		for _, f := range r.Files {
			used += f.Size
		}
	default:
		used = p.Size
	}
	return used
}

// Payload is what a machine may read of the image, in bytes: all but the room.
func (r ImageReport) Payload() (n int64) {
	for _, p := range r.Partitions {
		n += r.Used(p)
	}
	return n
}

// checkWith refuses builds that do not belong on one medium.
func (b *Build) checkWith(with []*Build) error {
	archs := []string{b.Inputs.Arch}
	for _, w := range with {
		if err := w.check(); err != nil {
			return err
		}
		switch {
		case slices.Contains(archs, w.Inputs.Arch):
			return fmt.Errorf("system: two builds for %s on one medium", w.Inputs.Arch)
		case w.Version != b.Version || !w.Time.Equal(b.Time) || w.MinVersion != b.MinVersion:
			return fmt.Errorf("system: the builds for %s and %s differ in version, time or version floor", b.Inputs.Arch, w.Inputs.Arch)
		}
		archs = append(archs, w.Inputs.Arch)
	}
	return nil
}

func cacheSize(n int64) int64 {
	switch {
	case n == 0:
		return DefaultCache
	case n < 0:
		return 0
	}
	return n
}

// seedPartition holds what a person may want to read or what the seed takes from
// the medium. The root that is trusted is the one inside the initramfs; this one
// is a copy to look at.
func (b *Build) seedPartition(cfg USBConfig, files []FileReport) (*image.Tree, error) {
	if cfg.Policy == nil || cfg.Bootstrap == nil {
		return nil, fmt.Errorf("system: the medium needs policy.toml and bootstrap-nodes.toml")
	}
	info, err := document(b.info())
	if err != nil {
		return nil, err
	}
	bill, err := document(billOfMaterials{b.Materials(cfg.With...), files})
	if err != nil {
		return nil, err
	}
	t := &image.Tree{}
	for _, w := range cfg.With {
		more, err := document(w.info())
		if err != nil {
			return nil, err
		}
		t.Bytes("build-"+w.Inputs.Arch+".json", 0o644, more)
	}
	t.Bytes("policy.toml", 0o644, cfg.Policy)
	t.Bytes("bootstrap-nodes.toml", 0o644, cfg.Bootstrap)
	t.Bytes("root.json", 0o644, cfg.Root)
	t.Bytes("build.json", 0o644, info)
	t.Bytes("materials.json", 0o644, bill)
	return t, t.Err()
}

// Materials lists the foreign parts of these builds, each once, by name.
func (b *Build) Materials(with ...*Build) []Material {
	all := slices.Clone(b.Inputs.Materials)
	for _, w := range with {
		all = append(all, w.Inputs.Materials...)
	}
	slices.SortFunc(all, func(a, b Material) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Arch, b.Arch), strings.Compare(a.SHA256.String(), b.SHA256.String()))
	})
	return slices.Compact(all)
}

// reportFiles digests the files of a tree.
func reportFiles(t *image.Tree) ([]FileReport, error) {
	entries, err := t.Entries()
	if err != nil {
		return nil, err
	}
	var list []FileReport
	for _, e := range entries {
		if !e.Mode.IsRegular() {
			continue
		}
		d, err := digestEntry(e)
		if err != nil {
			return nil, err
		}
		list = append(list, FileReport{"/" + e.Path, e.Size, d})
	}
	slices.SortFunc(list, func(a, b FileReport) int { return strings.Compare(a.Path, b.Path) })
	return list, nil
}
