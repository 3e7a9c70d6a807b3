package fetch

import (
	"io"
	"time"
)

// progressInterval keeps the callback below 20 calls per second.
const progressInterval = 50 * time.Millisecond

// reporter turns reads into rate-limited calls.
type reporter struct {
	call func(Progress)
	last Progress
	next time.Time
	r    io.Reader
}

func (p *reporter) source(name string, done int64) {
	p.last.Source, p.last.Done = name, done
}

// reader counts what is read from r; with no callback it is r itself.
func (p *reporter) reader(r io.Reader) io.Reader {
	if p.call == nil {
		return r
	}
	p.r = r
	return p
}

// Read implements io.Reader.
func (p *reporter) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.last.Done = min(p.last.Done+int64(n), p.last.Total)
	if now := time.Now(); now.After(p.next) {
		p.next = now.Add(progressInterval)
		p.call(p.last)
	}
	return n, err
}

func (p *reporter) final(size int64) {
	if p.call == nil {
		return
	}
	p.last.Done = size
	p.call(p.last)
}
