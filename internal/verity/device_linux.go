package verity

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/manifest"
)

// controlPath is where the device mapper takes orders; devtmpfs makes it when the
// module dm_mod is loaded.
const controlPath = "/dev/mapper/control"

// A Device is an opened file, as a read-only block device whose every block is
// checked when it is read.
type Device struct {
	Path string // "/dev/dm-0"
	name string
}

// OpenError says why the kernel did not open it. Nothing of the file was read but
// perhaps its topmost hash block.
type OpenError struct {
	Step string
	Err  error
}

func (e *OpenError) Error() string {
	return fmt.Sprintf("check the root file system block by block: %s: %v", e.Step, e.Err)
}

func (e *OpenError) Unwrap() error { return e.Err }

// Open makes a device called name of the block device at source, which has size
// bytes: data and tree. The modules dm_mod and dm_verity must be loaded. What does
// not fit the root hash gives EIO, to everybody and for as long as it does not.
func Open(name, source string, v manifest.Verity, size int64) (*Device, error) {
	if v.Root.IsZero() || v.DataSize < blockSize || v.DataSize%blockSize != 0 || v.DataSize > size ||
		v.DataSize+manifest.VerityTreeSize(v.DataSize) != size || len(v.Salt) > manifest.MaxVeritySalt {
		return nil, &OpenError{"the hash tree", fmt.Errorf("%w: %d bytes, %d of them data", ErrTree, size, v.DataSize)}
	}
	dev, err := command(unix.DM_DEV_CREATE, name, 0, nil)
	if err != nil {
		return nil, &OpenError{"make a device", err}
	}
	d := &Device{Path: fmt.Sprintf("/dev/dm-%d", unix.Minor(dev)), name: name}
	_, err = command(unix.DM_TABLE_LOAD, name, unix.DM_READONLY_FLAG, &target{sectors: v.DataSize / 512, text: table(source, v)})
	step := "describe the hash tree to the kernel"
	if err == nil {
		step = "start it"
		_, err = command(unix.DM_DEV_SUSPEND, name, 0, nil) // without its flag it resumes
	}
	if err != nil {
		return nil, &OpenError{step, errors.Join(err, d.Close())}
	}
	return d, nil
}

// table is the line of the verity target: version, data and hash device, their
// block sizes, how many blocks of data, the block at which the tree begins,
// algorithm, root, salt.
func table(source string, v manifest.Verity) string {
	salt := "-"
	if len(v.Salt) > 0 {
		salt = hex.EncodeToString(v.Salt)
	}
	blocks := v.DataSize / blockSize
	return fmt.Sprintf("1 %s %s %d %d %d %d sha256 %s %s", source, source, blockSize, blockSize, blocks, blocks, v.Root.Hex(), salt)
}

// Close removes the device. While something is mounted from it that is EBUSY.
func (d *Device) Close() error {
	if _, err := command(unix.DM_DEV_REMOVE, d.name, 0, nil); err != nil {
		return &OpenError{"remove the device", err}
	}
	return nil
}

// Corrupt reports whether the kernel has come upon a block that does not fit the
// root hash since the device was opened.
func (d *Device) Corrupt() (bool, error) {
	status, err := statusOf(d.name)
	if err != nil {
		return false, &OpenError{"ask for its state", err}
	}
	return status == "C", nil
}

// target is the one line of a table.
type target struct {
	sectors int64
	text    string
}

// maxName is the longest name, with its closing NUL.
const maxName = 128

// message is a call's argument: the header, one line, and room for an answer.
type message struct {
	unix.DmIoctl
	rest [1024]byte
}

func newMessage(name string, flags uint32) (*message, error) {
	if name == "" || len(name) >= maxName {
		return nil, fmt.Errorf("%.140q is no name for a device", name)
	}
	m := &message{}
	m.Version = [3]uint32{4, 0, 0}
	m.Data_size, m.Data_start = uint32(unsafe.Sizeof(*m)), unix.SizeofDmIoctl
	m.Flags = flags
	copy(m.Name[:], name)
	return m, nil
}

// command gives one order about the device called name, and returns its number.
func command(order uint, name string, flags uint32, t *target) (uint64, error) {
	m, err := newMessage(name, flags)
	if err != nil {
		return 0, err
	}
	if t != nil {
		if len(t.text) >= len(m.rest)-unix.SizeofDmTargetSpec {
			return 0, fmt.Errorf("the description of the hash tree has %d bytes", len(t.text))
		}
		spec := (*unix.DmTargetSpec)(unsafe.Pointer(&m.rest[0]))
		spec.Length, spec.Next = uint64(t.sectors), uint32(len(m.rest))
		copy(spec.Target_type[:], "verity")
		copy(m.rest[unix.SizeofDmTargetSpec:], t.text)
		m.Target_count = 1
	}
	if err := call(order, m); err != nil {
		return 0, err
	}
	return m.Dev, nil
}

// statusOf is what the target says of itself: "V" or "C", perhaps with more.
func statusOf(name string) (string, error) {
	m, err := newMessage(name, 0)
	if err != nil {
		return "", err
	}
	if err := call(unix.DM_TABLE_STATUS, m); err != nil {
		return "", err
	}
	if m.Target_count != 1 || m.Data_start != unix.SizeofDmIoctl {
		return "", fmt.Errorf("%d lines from byte %d", m.Target_count, m.Data_start)
	}
	text := unix.ByteSliceToString(m.rest[unix.SizeofDmTargetSpec:])
	if len(text) > 1 {
		text = text[:1]
	}
	return text, nil
}

func call(order uint, m *message) error {
	control, err := os.OpenFile(controlPath, os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("the kernel has no device mapper: %w", err)
	}
	defer control.Close()
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, control.Fd(), uintptr(order), uintptr(unsafe.Pointer(m)))
	if errno != 0 {
		return os.NewSyscallError("device mapper", errno)
	}
	return nil
}
