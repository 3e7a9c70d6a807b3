package main

import (
	"encoding/json"
	"io"
	"os"

	"github.com/phasebased/phase/internal/timeline"
)

// openEvents opens the file that events are appended to, one JSON line each.
// It may be a device. An empty path gives a writer that discards.
func openEvents(path string) (io.WriteCloser, error) {
	if path == "" {
		return discard{}, nil
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
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

// failure makes the event of an error, with its code if it has one.
func failure(err error) timeline.Event {
	return timeline.Event{Event: timeline.EventFailed, Text: err.Error(), Code: codeOf(err)}
}
