// Package appliance wraps a disk in what a hypervisor with windows opens as a whole
// machine: a bundle of UTM, in a zip archive.
//
// The same disk, name and time give the same bytes. Nothing is random: the
// machine's identifiers and the address of its network card are derived from its
// name and its disk. Two machines of one bundle on one network want new addresses,
// which UTM makes when it clones a machine.
//
// Trust: the disk is copied, never interpreted. Names are checked for what would
// have another meaning in the documents that they are put into.
package appliance

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/phasebased/phase/internal/diskformat"
)

// Architectures, in the project's canonical spelling.
const (
	X8664 = "x86_64"
	ARM64 = "arm64"
)

// Config says what machine to make of a disk.
type Config struct {
	Out  string // the file; its folder must exist
	Name string // of the machine: letters, digits, ".", "_", "-" and spaces
	Arch string // X8664 or ARM64
	// Memory is the machine's, in MiB; 0 means 2048.
	Memory  int
	Time    time.Time // every date inside
	Replace bool      // as in diskformat.Config
	// Progress is that of diskformat.Config, for the disk.
	Progress func(done, total int64)
}

var goodName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._ -]{0,99}$`)

func (c *Config) check() error {
	if !goodName.MatchString(c.Name) {
		return fmt.Errorf("a machine cannot be named %.100q", c.Name)
	}
	if c.Arch != X8664 && c.Arch != ARM64 {
		return fmt.Errorf("unknown architecture %q", c.Arch)
	}
	if c.Memory == 0 {
		c.Memory = 2048
	}
	return nil
}

// withDisk writes the disk to a temporary file beside the output, and passes it on
// with its digest.
func (c *Config) withDisk(ctx context.Context, format string, raw io.ReaderAt, size int64, use func(disk *os.File, digest [32]byte) error) error {
	dir, err := os.MkdirTemp(filepath.Dir(c.Out), ".appliance-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "disk")
	err = diskformat.Write(ctx, raw, size, diskformat.Config{Format: format, Out: path, Time: c.Time, Progress: c.Progress})
	if err != nil {
		return err
	}
	disk, err := os.Open(path)
	if err != nil {
		return err
	}
	defer disk.Close()
	digest := sha256.New()
	if _, err := io.Copy(digest, disk); err != nil {
		return err
	}
	if _, err := disk.Seek(0, io.SeekStart); err != nil {
		return err
	}
	return use(disk, [32]byte(digest.Sum(nil)))
}

// identifier derives a UUID of version 8 (RFC 9562, section 5.8) from the disk.
func identifier(digest [32]byte, purpose string) string {
	sum := sha256.Sum256(append([]byte("phase appliance\x00"+purpose+"\x00"), digest[:]...))
	id := sum[:16]
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80
	return fmt.Sprintf("%X-%X-%X-%X-%X", id[0:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// address is that of a network card, locally administered.
func address(digest [32]byte) string {
	sum := sha256.Sum256(append([]byte("phase appliance\x00mac\x00"), digest[:]...))
	return fmt.Sprintf("%02X:%02X:%02X:%02X:%02X:%02X", sum[0]&^3|2, sum[1], sum[2], sum[3], sum[4], sum[5])
}
