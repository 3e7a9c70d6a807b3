package system

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"time"

	"github.com/phasebased/phase/internal/image"
)

const seedLabel = "phase-seed"

// disk is a raw image: an EFI system partition, and if wanted a read-only
// squashfs and an empty ext4 cache behind it.
type disk struct {
	name  string // what the identifiers are derived from
	time  time.Time
	esp   *image.Tree
	seed  string // squashfs file, "" for none
	cache int64  // bytes, 0 for none
}

func (d *disk) partitions() ([]image.Partition, int64, error) {
	const slack = 64 << 20 // FAT tables, directories, cluster tails, some room
	esp := max(espSize, (d.esp.Size()+slack+image.PartitionAlign-1)/image.PartitionAlign*image.PartitionAlign)
	parts := []image.Partition{{Label: "phase-esp", Type: image.TypeESP(), Size: esp}}
	if d.seed != "" {
		info, err := os.Stat(d.seed)
		if err != nil {
			return nil, 0, fmt.Errorf("system: %w", err)
		}
		parts = append(parts, image.Partition{Label: seedLabel, Type: image.TypeLinux(), Size: info.Size()})
	}
	if d.cache > 0 {
		parts = append(parts, image.Partition{Label: "phase-cache", Type: image.TypeLinux(), Size: d.cache})
	}
	for i := range parts {
		parts[i].ID = image.DeriveGUID(d.name, parts[i].Label)
	}
	return image.Layout(parts)
}

// write makes the image at path, sparse, and moves it there when it is complete.
func (d *disk) write(ctx context.Context, path string) (ImageReport, error) {
	parts, size, err := d.partitions()
	if err != nil {
		return ImageReport{}, err
	}
	err = place(path+".partial", path, func(tmp string) error {
		f, err := image.CreateSparse(tmp, size)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := image.WriteGPT(f, image.DeriveGUID(d.name), parts, size); err != nil {
			return err
		}
		for _, p := range parts {
			if err := d.fill(ctx, f, tmp, p); err != nil {
				return err
			}
		}
		return f.Close()
	})
	return ImageReport{Path: path, Size: size, Partitions: parts}, err
}

func (d *disk) fill(ctx context.Context, f *os.File, path string, p image.Partition) error {
	id := image.DeriveGUID(d.name, "fs", p.Label)
	switch p.Label {
	case seedLabel:
		return image.CopyInto(f, p.Offset, p.Size, d.seed)
	case "phase-cache":
		ext4 := image.Ext4{Label: p.Label, UUID: id, Size: p.Size, Offset: p.Offset, Time: d.time}
		return ext4.Write(ctx, path)
	}
	fat := image.FAT32{Label: "PHASE-ESP", Serial: binary.LittleEndian.Uint32(id[:4]), Size: p.Size, Offset: p.Offset, Time: d.time}
	return fat.Write(offsetWriter{f, p.Offset}, d.esp)
}

// offsetWriter is a partition's view of the image.
type offsetWriter struct {
	f    *os.File
	base int64
}

func (w offsetWriter) WriteAt(p []byte, off int64) (int, error) { return w.f.WriteAt(p, w.base+off) }
