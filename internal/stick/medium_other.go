//go:build !linux && !darwin

package stick

import (
	"context"
	"os"

	"github.com/phasebased/phase/internal/disks"
)

// blkdev and plainFile are not made here.
type (
	blkdev    struct{ Medium }
	plainFile struct{ Medium }
)

func (blkdev) reread()         {}
func (blkdev) Close() error    { return nil }
func (plainFile) reread()      {}
func (plainFile) Close() error { return nil }

func unsupported(path string) error {
	return refuse(Unsupported, path, "cannot be written by this program: it knows the disks of Linux and macOS only")
}

func openDisk(d disks.Disk) (*blkdev, error)        { return nil, unsupported(d.Path) }
func openFile(path string) (*plainFile, error)      { return nil, unsupported(path) }
func openToRead(d disks.Disk) (*os.File, error)     { return nil, unsupported(d.Path) }
func trial(d disks.Disk) error                      { return unsupported(d.Path) }
func unmount(_ context.Context, d disks.Disk) error { return unsupported(d.Path) }
func openError(path string, _ error) error          { return unsupported(path) }
