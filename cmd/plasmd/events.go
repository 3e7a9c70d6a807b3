package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/phasebased/phase/internal/failure"
	"github.com/phasebased/phase/internal/sysinit"
	"github.com/phasebased/phase/internal/timeline"
)

// openEvents opens the file that events are appended to, one JSON line each. An
// empty path gives a writer that discards. It may be a device, such as the report
// port of a virtual machine: who watches there must not be able to hold the node
// up, so such events wait in memory and are lost when they become too many.
func openEvents(path string) (io.WriteCloser, error) {
	if path == "" {
		return discard{}, nil
	}
	if info, err := os.Stat(path); err == nil && info.Mode()&fs.ModeCharDevice != 0 {
		f, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			return nil, err
		}
		return &port{sysinit.NewQueue(f, sysinit.QueueConfig{Limit: maxWaiting}), f}, nil
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
}

const (
	maxWaiting   = 1 << 20 // bytes of events that wait for a device
	lastWordsMax = 2 * time.Second
)

// port is a device that takes events when it can.
type port struct {
	*sysinit.Queue
	device io.Closer
}

// Close gives the last events a moment.
func (p *port) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), lastWordsMax)
	defer cancel()
	return errors.Join(p.Flush(ctx), p.Queue.Close(), p.device.Close())
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Close() error                { return nil }

// event makes an event whose data is v. Data that does not fit or cannot be
// encoded is left out: the event itself is what matters.
func event(name, text string, v any) timeline.Event {
	e := timeline.Event{Event: name, Text: text}
	if data, err := json.Marshal(v); err == nil && len(data) < timeline.MaxEventBytes*3/4 {
		e.Data = data
	}
	return e
}

// failed makes the event of an error, with its code if it has one.
func failed(err error) timeline.Event {
	return timeline.Event{Event: timeline.EventFailed, Text: err.Error(), Code: failure.Code(err)}
}
