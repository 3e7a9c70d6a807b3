package sysinit

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// parseMeminfo finds one field of /proc/meminfo and gives it in bytes.
func parseMeminfo(r io.Reader, name string) (int64, error) {
	lines := bufio.NewScanner(io.LimitReader(r, 64<<10))
	for lines.Scan() {
		key, value, ok := strings.Cut(lines.Text(), ":")
		if !ok || key != name {
			continue
		}
		number, unit, _ := strings.Cut(strings.TrimSpace(value), " ")
		kib, err := strconv.ParseInt(number, 10, 52)
		if err != nil || kib < 0 || unit != "kB" {
			return 0, fmt.Errorf("memory: %s is %q", name, value)
		}
		return kib << 10, nil
	}
	if err := lines.Err(); err != nil {
		return 0, fmt.Errorf("memory: %w", err)
	}
	return 0, fmt.Errorf("memory: the kernel does not tell %s", name)
}
