package sysinit

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/phasebased/phase/internal/lines"
)

// maxProc bounds what is read of a list of the kernel's, in bytes.
const maxProc = 1 << 20

// procFields splits each line of a list of the kernel's below root. One that is not
// there is empty.
func procFields(root, name string) (rows [][]string, err error) {
	f, err := os.Open(filepath.Join(root, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return splitLines(f)
}

func splitLines(r io.Reader) (rows [][]string, err error) {
	scanner := bufio.NewScanner(io.LimitReader(r, maxProc))
	for scanner.Scan() {
		rows = append(rows, strings.Fields(scanner.Text()))
	}
	return rows, scanner.Err()
}

// swaps lists what the kernel swaps to, the last first, by the names that swapoff
// takes: the first field of each line but the head (proc(5)). Compressed memory
// (zram) is in it.
func swaps(root string) (names []string, err error) {
	rows, err := procFields(root, "proc/swaps")
	for _, fields := range rows[min(1, len(rows)):] {
		if len(fields) > 0 {
			names = append(names, lines.Unescape(fields[0]))
		}
	}
	slices.Reverse(names)
	return names, err
}

// mounted is one line of /proc/self/mounts.
type mounted struct{ fstype, target string }

// mountsBelow lists what is mounted, in the order in which it was, as proc below
// root has it.
func mountsBelow(root string) ([]mounted, error) {
	rows, err := procFields(root, "proc/self/mounts")
	return mountsIn(rows), err
}

func mountsIn(rows [][]string) (list []mounted) {
	for _, fields := range rows {
		if len(fields) >= 3 {
			list = append(list, mounted{fstype: fields[2], target: lines.Unescape(fields[1])})
		}
	}
	return list
}

// mountsOf lists where file systems of a type are mounted, the last one first.
func mountsOf(root, fstype string) (targets []string, err error) {
	list, err := mountsBelow(root)
	for _, m := range slices.Backward(list) {
		if m.fstype == fstype {
			targets = append(targets, m.target)
		}
	}
	return targets, err
}
