package stick

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/phasebased/phase/internal/disks"
)

// Options say what is to be written where.
type Options struct {
	Image  string // path of a raw image
	Device string // path of a disk; symbolic links such as those in /dev/disk are fine
	File   bool   // Device is a file that stands for a stick
	Allow  Allow
}

// A Plan is a write that may be done: everything was looked at, nothing was changed.
type Plan struct {
	Image *Image
	Disk  disks.Disk

	options Options
}

// Prepare looks at the image and at the device, and refuses what must not be done or
// cannot succeed. The plan must be closed.
func Prepare(ctx context.Context, o Options) (*Plan, error) {
	m, err := OpenImage(o.Image)
	if err != nil {
		return nil, err
	}
	p := &Plan{Image: m, options: o}
	if p.Disk, err = p.examine(ctx); err != nil {
		m.Close()
		return nil, err
	}
	return p, nil
}

// Close closes the image.
func (p *Plan) Close() error { return p.Image.Close() }

// examine finds the device, as it is now, and refuses it if need be.
func (p *Plan) examine(ctx context.Context) (disks.Disk, error) {
	o := p.options
	info, err := os.Stat(o.Device)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return disks.Disk{}, refuse(NoDevice, o.Device, "does not exist")
	case err != nil:
		return disks.Disk{}, &Error{Reason: NoDevice, Path: o.Device, Text: "cannot be looked at", Err: err}
	case info.Mode().IsRegular():
		return p.examineFile(info)
	case info.Mode()&fs.ModeDevice == 0 || o.File:
		return disks.Disk{}, refuse(NotDevice, o.Device, "is no %s", map[bool]string{true: "file", false: "disk"}[o.File])
	}
	d, part, err := disks.Find(ctx, o.Device)
	if errors.Is(err, errors.ErrUnsupported) {
		return d, refuse(Unsupported, o.Device, "cannot be written by this program: it knows the disks of Linux and macOS only")
	}
	if err != nil {
		return d, &Error{Reason: NotDevice, Path: o.Device, Text: "is no disk", Err: err}
	}
	return d, p.admit(ctx, d, part)
}

// admit refuses a disk that must not be written to.
func (p *Plan) admit(ctx context.Context, d disks.Disk, part string) error {
	if err := Check(d, part, p.Image.Size, Allow{Fixed: p.options.Allow.Fixed, Unmount: true}); err != nil {
		return err
	}
	path, err := filepath.Abs(p.Image.Path)
	if err == nil {
		path, err = filepath.EvalSymlinks(path)
	}
	if err != nil {
		return imageError(p.Image.Path, err)
	}
	holds, err := disks.Holds(ctx, d, path)
	if err != nil {
		return err
	}
	if holds {
		return refuse(HoldsImage, d.Path, "holds the image %s", p.Image.Path)
	}
	if err := Check(d, part, p.Image.Size, p.options.Allow); err != nil {
		return err
	}
	if len(d.Uses) > 0 {
		return nil // whether it can be opened shows when it is unmounted
	}
	return trial(d)
}

func (p *Plan) examineFile(info fs.FileInfo) (disks.Disk, error) {
	path := p.options.Device
	if !p.options.File {
		return disks.Disk{}, refuse(NotDevice, path, "is a file, no disk")
	}
	own, err := p.Image.f.Stat()
	if err != nil {
		return disks.Disk{}, imageError(p.Image.Path, err)
	}
	if os.SameFile(own, info) {
		return disks.Disk{}, refuse(HoldsImage, path, "is the image itself")
	}
	if info.Size() < p.Image.Size {
		return disks.Disk{}, refuse(TooSmall, path, "is too small: it has %d bytes, and the image needs %d", info.Size(), p.Image.Size)
	}
	return disks.Disk{Name: filepath.Base(path), Path: path, Size: info.Size(), SectorSize: sector, Bus: disks.File}, nil
}

// target is an opened Medium.
type target interface {
	Medium
	reread()
	Close() error
}

// Write does what was planned, after looking at the disk once more. Progress may be
// nil; see [Job].
func (p *Plan) Write(ctx context.Context, progress func(Phase, int64, int64)) (Report, error) {
	m, err := p.open(ctx)
	if err != nil {
		return Report{}, err
	}
	job := &Job{Image: p.Image, Medium: m, Path: p.Disk.Path, Old: p.old(m), Progress: progress}
	_, _ = rand.Read(job.Seed[:]) // never fails
	report, err := job.Run(ctx)
	m.reread()
	return report, errors.Join(err, m.Close())
}

func (p *Plan) open(ctx context.Context) (target, error) {
	if p.Disk.Bus == disks.File {
		return opened(openFile(p.Disk.Path))
	}
	now, err := p.examine(ctx)
	if err != nil {
		return nil, err
	}
	if now.Name != p.Disk.Name || now.Size != p.Disk.Size || now.Serial != p.Disk.Serial || now.Sequence != p.Disk.Sequence {
		return nil, refuse(Replaced, p.Disk.Path, "is another disk now")
	}
	if err := unmount(ctx, now); err != nil {
		return nil, err
	}
	return opened(openDisk(now))
}

// opened keeps an error from becoming a target that is not nil.
func opened[T target](m T, err error) (target, error) {
	if err != nil {
		return nil, err
	}
	return m, nil
}

// old are the places where partitions begin now, according to the kernel and to the
// table on the medium.
func (p *Plan) old(m Medium) []int64 {
	var out []int64
	for _, part := range p.Disk.Partitions {
		out = append(out, part.Offset)
	}
	if t, err := readTable(m, m.Size()); err == nil {
		for _, part := range t.parts {
			out = append(out, part.Offset)
		}
	}
	return out
}
