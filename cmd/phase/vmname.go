package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// machineName is what machines and LANs may be called: it becomes the name of a
// folder and an argument of QEMU.
var machineName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]{0,39}$`)

// stateFolder is where machines keep what they keep: the folder given, or the one
// that the platform's customs name.
func stateFolder(given string) (string, error) {
	if given != "" {
		return filepath.Abs(given)
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "phase", "vm"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find a folder for what machines keep (or name one with --state): %w", err)
	}
	if runtime.GOOS == "darwin" {
		return filepath.Join(home, "Library", "Application Support", "phase", "vm"), nil
	}
	return filepath.Join(home, ".local", "state", "phase", "vm"), nil
}

// claim holds the names of machines against other runs, until release. The kernel
// lets go of a claim when the process ends, however it ends.
type claim struct {
	names []string
	locks []*os.File
}

// errRunning says that another run has a machine of this name.
var errRunning = errors.New("a machine of this name is running")

// claimMachines takes a name, or names with numbers for several machines; without a
// name, the first of machine-1, machine-2 … that are free.
func claimMachines(state, name string, machines int) (*claim, error) {
	c := &claim{}
	prefix, numbers := name+"-", machines
	if name == "" {
		prefix, numbers = "machine-", 1000
	}
	if name != "" && machines == 1 {
		return c, c.take(state, name)
	}
	for n := 1; n <= numbers && len(c.names) < machines; n++ {
		err := c.take(state, prefix+strconv.Itoa(n))
		if err != nil && (name != "" || !errors.Is(err, errRunning)) {
			c.release()
			return nil, err
		}
	}
	if len(c.names) < machines {
		c.release()
		return nil, fmt.Errorf("all names up to %s%d are taken: %w", prefix, numbers, errRunning)
	}
	return c, nil
}

func (c *claim) take(state, name string) error {
	folder := filepath.Join(state, name)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("make the folder of machine %s: %w", name, err)
	}
	lock, err := os.OpenFile(filepath.Join(folder, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("claim machine %s: %w", name, err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errRunning
		}
		return fmt.Errorf("claim machine %s: %w", name, err)
	}
	c.names, c.locks = append(c.names, name), append(c.locks, lock)
	return nil
}

func (c *claim) release() {
	for _, lock := range c.locks {
		_ = lock.Close()
	}
}

// identity are QEMU's arguments that tell a machine from others.
func identity(name string) []string {
	b := sha256.Sum256([]byte("phase vm uuid " + name))
	b[6], b[8] = b[6]&0x0f|0x80, b[8]&0x3f|0x80 // RFC 9562, version 8: made from a name, by our own rule
	return []string{"-name", name, "-uuid", fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:16])}
}

// cardAddress is that of a machine's network card, below QEMU's own prefix.
func cardAddress(name, card string) string {
	sum := sha256.Sum256([]byte("phase vm card " + card + " of " + name))
	return net.HardwareAddr{0x52, 0x54, 0, sum[0], sum[1], sum[2]}.String()
}

// segment is the multicast address and port of a LAN, in the range for one site's
// own use (RFC 2365). LANs of different users differ.
func segment(lan string) netip.AddrPort {
	sum := sha256.Sum256([]byte("phase vm lan " + strconv.Itoa(os.Getuid()) + " " + lan))
	port := 20000 + (uint16(sum[3])<<8|uint16(sum[4]))%20000
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{239, 255, sum[0], sum[1]}), port)
}
