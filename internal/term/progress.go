package term

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Progress shows one download. On a live console it is a bar that is redrawn;
// elsewhere a line for each ten percent.
type Progress struct {
	c     *Console
	name  string
	total int64
	start time.Duration
	drawn time.Duration // when the bar was last redrawn
	tenth int64         // the last ten percent that had its line
	from  string
	ended bool
}

// settled is how long a download must run before its speed is shown: before
// that, it says what a buffer holds and not what the network does.
const settled = 500 * time.Millisecond

// leastBar is the narrowest bar, in columns.
const leastBar = 6

// redraw is how often a bar is drawn again at most.
const redraw = 100 * time.Millisecond

// Progress begins to show a download of total bytes; total 0 means unknown.
func (c *Console) Progress(name string, total int64) *Progress {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &Progress{c: c, name: c.text(name), total: max(total, 0), start: c.cfg.Now(), drawn: -redraw}
}

// Set tells how many bytes there are now. It may be called for every buffer:
// it writes only when there is something new to see. Going back (a source was
// given up) is allowed.
func (p *Progress) Set(done int64) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	if p.ended {
		return
	}
	done = max(done, 0)
	if p.total > 0 {
		done = min(done, p.total)
	}
	if p.c.cfg.Live {
		p.bar(done)
		return
	}
	p.line(done)
}

// From says where the bytes come from, in as few words as "2 sources". It is
// shown with what Set writes next, where the line has room for it.
func (p *Progress) From(text string) {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	p.from = p.c.text(text)
}

// End takes the bar away. The step's line says what came out of it.
func (p *Progress) End() {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	if !p.ended && p.c.live {
		p.c.settle()
	}
	p.ended = true
}

// bar redraws the line; c.mu is held.
func (p *Progress) bar(done int64) {
	now := p.c.cfg.Now()
	if now-p.drawn < redraw && done != p.total {
		return
	}
	if !p.c.live {
		p.c.settle()
	}
	p.drawn = now
	full, empty := "█", "░"
	if p.c.cfg.ASCII {
		full, empty = "#", "."
	}
	numbers := p.numbers(done, now)
	cells := min(24, max(leastBar, p.c.cfg.Width-stepWidth-1-width(numbers)))
	filled := 0
	if p.total > 0 {
		filled = int(float64(done) / float64(p.total) * float64(cells))
	}
	text := fmt.Sprintf("%s%s %s%s %s", noteIndent, pad(cut(p.name, nameWidth), nameWidth),
		p.c.paint(green, strings.Repeat(full, filled)), p.c.paint(dim, strings.Repeat(empty, cells-filled)), numbers)
	plain := stepWidth + cells + 1 + width(numbers)
	p.c.put("\r" + text + strings.Repeat(" ", max(0, p.c.cfg.Width-plain)))
	p.c.live = true
}

// line writes a line when another ten percent are there; c.mu is held.
func (p *Progress) line(done int64) {
	if p.total == 0 {
		return
	}
	tenth := int64(float64(done) / float64(p.total) * 10)
	if tenth <= p.tenth {
		return
	}
	p.tenth = tenth
	p.c.settle()
	p.c.put(fmt.Sprintf("%s%s %s\n", noteIndent, pad(cut(p.name, nameWidth), nameWidth), p.numbers(done, p.c.cfg.Now())))
}

// numbers is "40 %  5.7 MB of 14.2 MB  3.1 MB/s".
func (p *Progress) numbers(done int64, now time.Duration) string {
	rate := ""
	if took := now - p.start; took >= settled {
		rate = "  " + Bytes(int64(float64(done)/took.Seconds())) + "/s"
	}
	numbers := Bytes(done) + rate
	if p.total > 0 {
		percent := int64(float64(done) / float64(p.total) * 100)
		numbers = fmt.Sprintf("%3d %%  %s of %s%s", percent, Bytes(done), Bytes(p.total), rate)
	}
	least := 1 // columns of the bar and the blank behind it
	if p.c.cfg.Live {
		least += leastBar
	}
	if p.from != "" && stepWidth+least+width(numbers)+2+width(p.from) <= p.c.cfg.Width {
		numbers += "  " + p.from
	}
	return numbers
}

// Bytes writes a number of bytes in decimal units, as storage is sold:
// "999 B", "14.2 MB".
func Bytes(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	f := float64(n)
	for _, unit := range []string{"kB", "MB", "GB"} {
		if f /= 1000; f < 999.95 {
			return fmt.Sprintf("%.1f %s", f, unit)
		}
	}
	return fmt.Sprintf("%.1f TB", f/1000)
}

// ParseBytes reads a number of bytes, at least 1, as people write it: "1048576",
// "500M", "2GB" (powers of 1000), "2Gi" (of 1024).
func ParseBytes(text string) (int64, error) {
	digits := strings.TrimRight(text, "kKMGTiB")
	n, err := strconv.ParseInt(digits, 10, 64)
	unit, known := map[string]int64{
		"": 1, "B": 1, "k": 1e3, "kB": 1e3, "M": 1e6, "MB": 1e6, "G": 1e9, "GB": 1e9, "T": 1e12, "TB": 1e12,
		"Ki": 1 << 10, "KiB": 1 << 10, "Mi": 1 << 20, "MiB": 1 << 20, "Gi": 1 << 30, "GiB": 1 << 30, "Ti": 1 << 40, "TiB": 1 << 40,
	}[text[len(digits):]]
	if err != nil || !known || n < 1 || digits[0] == '+' || n > math.MaxInt64/unit {
		return 0, fmt.Errorf("%.40q is no size of 1 byte or more, such as 500M, 2G or 2Gi", text)
	}
	return n * unit, nil
}
