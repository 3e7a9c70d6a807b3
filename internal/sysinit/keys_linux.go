package sysinit

import (
	"context"
	"sync"
	"time"
)

// ReadKeys sends what is typed on any of the consoles, from its return on, to
// keys until ctx ends, and then sets the terminals back, for which wait waits.
// What was typed before is forgotten. A console that cannot be read (it is gone,
// or it is only an output) is left out; the others go on.
func ReadKeys(ctx context.Context, consoles []Console, keys chan<- Key) (wait func()) {
	var wg sync.WaitGroup
	for _, c := range consoles {
		restore, err := c.SetRaw()
		if err != nil {
			continue
		}
		wg.Go(func() {
			defer restore()
			c.read(ctx, keys)
		})
	}
	return wg.Wait
}

func (c Console) read(ctx context.Context, keys chan<- Key) {
	if c.File.SetReadDeadline(time.Time{}) != nil {
		return // no poller: a read could never be ended
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		_ = c.File.SetReadDeadline(time.Unix(1, 0))
	})
	defer func() {
		if !stop() {
			<-ended // else it could end the console's next reader
		}
	}()
	buf := make([]byte, 64)
	for {
		n, err := c.File.Read(buf)
		for _, b := range buf[:n] {
			select {
			case keys <- Key{Byte: b, Echo: c.File}:
			case <-ctx.Done():
				return
			}
		}
		if err != nil || n == 0 {
			return
		}
	}
}
