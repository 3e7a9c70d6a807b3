package term

import (
	"fmt"
	"strings"
	"time"
)

// Row is one stage of a timeline table. Start counts from the same moment for
// all rows of a table.
type Row struct {
	Name  string
	Group string // "seed", "node"; written when it changes
	Start time.Duration
	Took  time.Duration
	Note  string // marks the row, for instance "failed"
}

// Timeline writes the table of stages: when each began, how long it took, and
// a bar in proportion to the whole.
func (c *Console) Timeline(rows []Row) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	names, groups := width("stage"), 0
	var whole time.Duration
	for _, r := range rows {
		names = max(names, min(20, width(c.text(r.Name))))
		groups = max(groups, min(10, width(c.text(r.Group))))
		whole = max(whole, r.Start+r.Took)
	}
	cells := max(6, c.cfg.Width-28-groups-names) // one is kept for a mark
	c.put(fmt.Sprintf("  %s %s %s %s\n", pad("", groups), pad("stage", names), padLeft("start", 10), padLeft("took", 10)))
	last := ""
	for _, r := range rows {
		group := ""
		if r.Group != last {
			group, last = r.Group, r.Group
		}
		line := fmt.Sprintf("  %s %s %s %s  %s", pad(cut(c.text(group), groups), groups), pad(cut(c.text(r.Name), names), names),
			padLeft(seconds(r.Start), 10), padLeft(seconds(r.Took), 10), c.span(r, whole, cells))
		c.put(strings.TrimRight(line, " ") + "\n")
	}
}

// span draws a row's part of the whole; every stage gets at least one mark.
func (c *Console) span(r Row, whole time.Duration, cells int) string {
	if whole <= 0 {
		return c.text(r.Note)
	}
	from := int(float64(r.Start) / float64(whole) * float64(cells))
	from = min(max(from, 0), cells-1)
	n := int(float64(r.Took)/float64(whole)*float64(cells) + 0.5)
	n = min(max(n, 1), cells-from)
	mark := "█"
	if c.cfg.ASCII {
		mark = "#"
	}
	bar := strings.Repeat(" ", from) + strings.Repeat(mark, n)
	if r.Note != "" {
		if room := cells - from - n - 1; room >= width(c.text(r.Note)) {
			bar += " " + c.text(r.Note)
		} else {
			bar += "!"
		}
	}
	return bar
}
