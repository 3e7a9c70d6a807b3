package timeline

import (
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// The events that this project sends. A reader must pass over others.
const (
	EventStageStart = "stage-start"
	EventStageEnd   = "stage-end"
	EventFailed     = "failed"     // the boot stopped; Code and Text say why
	EventHandover   = "handover"   // the last event of the seed
	EventNodeReady  = "node-ready" // the node answers
	EventReceipt    = "receipt"    // Data is the receipt
	EventAnnounced  = "announced"  // what a node tells the network of what it serves has changed
)

// Event is one line on the report port.
type Event struct {
	Event  string         `json:"event"`
	Stage  string         `json:"stage,omitzero"`
	Kernel string         `json:"kernel,omitzero"`
	AtNS   int64          `json:"at_ns"` // nanoseconds since the start of that kernel
	Code   string         `json:"code,omitzero"`
	Text   string         `json:"text,omitzero"`
	Data   jsontext.Value `json:"data,omitzero"`
}

// Line is the event as one JSON line, newline included.
func (e Event) Line() ([]byte, error) {
	line, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("write event %q: %w", e.Event, err)
	}
	return append(line, '\n'), nil
}

// ParseEvent reads one line that Event.Line wrote: at most MaxEventBytes, no
// duplicate names. Unknown names are passed over, so that an older watcher can
// follow a newer guest.
func ParseEvent(line []byte) (Event, error) {
	var e Event
	if len(line) > MaxEventBytes {
		return e, fmt.Errorf("%w: event of %d bytes, at most %d allowed", ErrMalformed, len(line), MaxEventBytes)
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return Event{}, fmt.Errorf("%w: event: %w", ErrMalformed, err)
	}
	if e.Event == "" || len(e.Event) > maxName || e.AtNS < 0 {
		return Event{}, fmt.Errorf("%w: event named %.64q at %d ns", ErrMalformed, e.Event, e.AtNS)
	}
	return e, nil
}
