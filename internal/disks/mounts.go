package disks

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/phasebased/phase/internal/lines"
)

// Bounds on what is read of the kernel's lists. Machines with many containers have
// tens of thousands of mounts.
const (
	maxList  = 64 << 20 // bytes of one list
	maxSpace = 4096     // mount namespaces that are looked into
)

// A mount is a line of /proc/PID/mountinfo (proc_pid_mountinfo(5)).
type mount struct {
	dev    string // major:minor of the file system
	point  string
	source string
	fsType string
	other  bool // seen in another namespace than ours only
}

// mounts are those of this process, then those of other namespaces that this user
// may see.
func (r Roots) mounts() ([]mount, error) {
	own, err := readMounts(filepath.Join(r.Proc, "self", "mountinfo"))
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	if ns, err := os.Readlink(filepath.Join(r.Proc, "self", "ns", "mnt")); err == nil {
		seen[ns] = true
	}
	processes, err := filepath.Glob(filepath.Join(r.Proc, "[0-9]*"))
	if err != nil {
		return nil, err
	}
	for _, process := range processes {
		ns, err := os.Readlink(filepath.Join(process, "ns", "mnt"))
		if err != nil || seen[ns] || len(seen) > maxSpace {
			continue // gone, or not ours to see
		}
		others, err := readMounts(filepath.Join(process, "mountinfo"))
		if err != nil {
			continue // gone meanwhile
		}
		seen[ns] = true
		for _, m := range others {
			m.other = true
			own = append(own, m)
		}
	}
	return own, nil
}

func readMounts(path string) ([]mount, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseMounts(f)
}

// parseMounts reads a mountinfo list. A line that makes no sense is an error: it
// could be the one that matters.
func parseMounts(r io.Reader) ([]mount, error) {
	var out []mount
	scanner := bufio.NewScanner(io.LimitReader(r, maxList))
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		head, tail, ok := strings.Cut(scanner.Text(), " - ")
		fields, rest := strings.Split(head, " "), strings.Split(tail, " ")
		if !ok || len(fields) < 6 || len(rest) < 2 {
			return nil, fmt.Errorf("disks: mount list: %.80q makes no sense", scanner.Text())
		}
		out = append(out, mount{dev: fields[2], point: lines.Unescape(fields[4]), fsType: rest[0], source: lines.Unescape(rest[1])})
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("disks: mount list: %w", err)
	}
	return out, nil
}

// swaps are the files and devices that the kernel swaps to.
func (r Roots) swaps() ([]string, error) {
	f, err := os.Open(filepath.Join(r.Proc, "swaps"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // a kernel without swapping
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []string
	scanner := bufio.NewScanner(io.LimitReader(f, maxList))
	for first := true; scanner.Scan(); first = false {
		if name, _, _ := strings.Cut(scanner.Text(), " "); !first && name != "" {
			name, _, _ = strings.Cut(name, "\t")
			out = append(out, lines.Unescape(name))
		}
	}
	if err := scanner.Err(); err != nil {
		return nil, fmt.Errorf("disks: swap areas: %w", err)
	}
	return out, nil
}

// below returns the mount that a path lies on: the last of those with the longest
// mount point that leads to it.
func below(mounts []mount, path string) (mount, bool) {
	best, found := mount{}, false
	for _, m := range mounts {
		prefix := strings.TrimSuffix(m.point, "/") + "/"
		if !m.other && strings.HasPrefix(path+"/", prefix) && (!found || len(m.point) >= len(best.point)) {
			best, found = m, true
		}
	}
	return best, found
}
