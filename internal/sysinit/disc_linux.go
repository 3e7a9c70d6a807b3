package sysinit

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// spinUp is how often drives are asked again. A disc that becomes ready is no
// event: the kernel looks for one only when it is told to poll.
const spinUp = time.Second

// WaitMedium is WaitPartition for media that may also be a disc: a drive has no
// partitions, so a disc goes by the volume identifier of its ISO 9660 file system. Of
// partitions only those count of which wanted is true, as for WaitPartitions.
func WaitMedium(ctx context.Context, label, volume string, wanted func(Partition) bool) ([]Partition, error) {
	return waitFor(ctx, label, func(sys fs.FS) ([]Partition, int, error) {
		found, err := Partitions(sys, label)
		found = slices.DeleteFunc(found, func(p Partition) bool { return !wanted(p) })
		discs, drives := Discs(sys, openDrive, volume)
		return append(found, discs...), drives, err
	})
}

// nextLook waits until there is a reason to look again.
func nextLook(ctx context.Context, w *Watcher, drives int) error {
	if drives == 0 {
		return nextBlockEvent(ctx, w)
	}
	soon, cancel := context.WithTimeout(ctx, spinUp)
	defer cancel()
	if err := nextBlockEvent(soon, w); err != nil && (ctx.Err() != nil || soon.Err() == nil) {
		return err
	}
	return nil
}

// openDrive opens a drive even if there is no disc in it.
func openDrive(device string) (io.ReadCloser, error) {
	f, err := os.OpenFile(device, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(volumeAt, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// volumeAt is the offset of the volume descriptor on a disc (ECMA-119, 6.2).
const volumeAt = 16 * 2048

// Discs lists the discs with a volume identifier, as partitions that are whole
// disks, and counts the drives. open gives a drive's bytes from its volume
// descriptor on.
func Discs(sys fs.FS, open func(device string) (io.ReadCloser, error), volume string) (found []Partition, drives int) {
	entries, err := fs.ReadDir(sys, "class/block")
	if err != nil {
		return nil, 0
	}
	for _, e := range entries {
		const romDrive = "5" // SCSI's number of the kind of device
		dir := path.Join("class/block", e.Name())
		name := parseEnv(readLine(sys, path.Join(dir, "uevent")))["DEVNAME"]
		if readLine(sys, path.Join(dir, "device/type")) != romDrive || !plainName(name) {
			continue
		}
		drives++
		if device := "/dev/" + name; volumeOf(device, open) == volume {
			found = append(found, Partition{Device: device, Disk: e.Name(), Label: volume, Removable: true, Disc: true})
		}
	}
	return found, drives
}

// volumeOf is the identifier of the disc in a drive; "": there is none, or it is
// of another kind.
func volumeOf(device string, open func(string) (io.ReadCloser, error)) string {
	f, err := open(device)
	if err != nil {
		return ""
	}
	defer f.Close()
	var b [72]byte
	if _, err := io.ReadFull(f, b[:]); err != nil || !bytes.HasPrefix(b[:], []byte("\x01CD001\x01")) {
		return ""
	}
	return strings.TrimRight(string(b[40:72]), " ")
}
