package fetch

import "time"

// progressInterval keeps the callback below 20 calls per second.
const progressInterval = 50 * time.Millisecond

// reporter turns what happens into rate-limited calls. It belongs to the
// goroutine that runs the download.
type reporter struct {
	call func(Progress)
	last Progress
	next time.Time
}

func (p *reporter) from(source string) { p.last.Source = source }

// show tells how many bytes are here, and how many of chunks that are not yet
// complete. What has been shown of those stays when they turn out to be wrong,
// until others are right in their place.
func (p *reporter) show(here, coming int64, sources int) {
	if p.call == nil {
		return
	}
	now := time.Now()
	if now.Before(p.next) {
		return
	}
	p.next = now.Add(progressInterval)
	done := here
	if coming > 0 {
		done = max(p.last.Done, here+coming)
	}
	p.last.Done, p.last.Sources = min(done, p.last.Total), sources
	p.call(p.last)
}

func (p *reporter) final(size int64) {
	if p.call == nil {
		return
	}
	p.last.Done, p.last.Sources = size, 0
	p.call(p.last)
}
