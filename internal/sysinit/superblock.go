package sysinit

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrNoImage says that what should be a root file system is none that is known.
var ErrNoImage = errors.New("neither a squashfs nor an EROFS image")

// ImageType is "squashfs" or "erofs", by the superblock of a root file system of
// at most size bytes. It is strict where that is cheap (version, block size, length),
// so that what is damaged or meant for something else is told in these words and
// not in the kernel's. What it accepts the kernel may still refuse.
func ImageType(image io.ReaderAt, size int64) (string, error) {
	var head [1152]byte
	n, err := image.ReadAt(head[:], 0)
	if n < len(head) {
		if err == nil || errors.Is(err, io.EOF) {
			return "", fmt.Errorf("%w: it has %d bytes", ErrNoImage, n)
		}
		return "", err
	}
	switch {
	case isSquashfs(head[:], size):
		return "squashfs", nil
	case isEROFS(head[1024:], size):
		return "erofs", nil
	}
	return "", ErrNoImage
}

// isSquashfs knows struct squashfs_super_block of fs/squashfs/squashfs_fs.h.
func isSquashfs(b []byte, size int64) bool {
	le := binary.LittleEndian
	blockSize, blockLog, used := le.Uint32(b[12:]), le.Uint16(b[22:]), le.Uint64(b[40:])
	return string(b[:4]) == "hsqs" && le.Uint16(b[28:]) == 4 && le.Uint16(b[30:]) == 0 &&
		blockLog >= 12 && blockLog <= 20 && blockSize == 1<<blockLog &&
		used >= 96 && used <= uint64(max(size, 0))
}

// isEROFS knows struct erofs_super_block of fs/erofs/erofs_fs.h, from byte 1024.
func isEROFS(b []byte, size int64) bool {
	le := binary.LittleEndian
	blockBits, blocks := b[12], uint64(le.Uint32(b[36:]))
	return le.Uint32(b) == 0xE0F5E1E2 && blockBits >= 9 && blockBits <= 16 && blocks > 0 &&
		blocks<<blockBits <= uint64(max(size, 0))
}

// VolumeUUID is Ext4UUID of a device or file by its path.
func VolumeUUID(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return Ext4UUID(f)
}

// Ext4UUID is the identifier of an ext4 file system, as its superblock has it, in
// the usual form. It tells one of our partitions from another; whoever can write to
// the disk can choose it.
func Ext4UUID(device io.ReaderAt) (string, error) {
	var b [1024]byte
	if _, err := device.ReadAt(b[:], 1024); err != nil {
		return "", fmt.Errorf("read the file system's identifier: %w", err)
	}
	id := b[0x68:0x78]
	if binary.LittleEndian.Uint16(b[0x38:]) != 0xEF53 {
		return "", errors.New("not an ext4 file system")
	}
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:]), nil
}
