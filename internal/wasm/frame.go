package wasm

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/phasebased/phase/internal/strictjson"
)

// A frame is what the two processes say to each other over pipes: one byte
// of kind, the length as four big-endian bytes, the body. The node sends
// configure, then spec and module, in this order, where a module that is that of the job
// before is not sent again; the runner answers configure
// with ready, and the other two with any number of stdout and stderr frames
// and one outcome. Then the node may send another spec and module, or close its
// end.
type frameKind byte

const (
	frameConfigure frameKind = 'C' // runnerConfig, before anything foreign
	frameReady     frameKind = 'R' // readyMessage: jailed, waiting for work
	frameSpec      frameKind = 'J' // the job's canonical payload
	frameModule    frameKind = 'M' // the module
	frameSame      frameKind = 'S' // in its place: that of the job before; empty
	frameStdout    frameKind = 'O' // what the guest wrote
	frameStderr    frameKind = 'E'
	frameOutcome   frameKind = 'Z' // outcomeMessage
)

// maxControl bounds configuration and outcome; maxOutput bounds one output
// frame.
const (
	maxControl = 64 << 10
	maxOutput  = 64 << 10
)

func writeFrame(w io.Writer, kind frameKind, body []byte) error {
	var head [5]byte
	head[0] = byte(kind)
	binary.BigEndian.PutUint32(head[1:], uint32(len(body)))
	if len(body) <= maxOutput { // one write, so that a kill cannot part them
		_, err := w.Write(append(head[:], body...))
		return err
	}
	if _, err := w.Write(head[:]); err != nil {
		return err
	}
	_, err := w.Write(body)
	return err
}

// readFrame reads one frame whose body has at most limit(kind) bytes; a limit
// below zero means the kind is not expected. io.EOF means the other side
// closed the pipe between two frames.
func readFrame(r io.Reader, limit func(frameKind) int64) (frameKind, []byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	kind, size := frameKind(head[0]), int64(binary.BigEndian.Uint32(head[1:]))
	if most := limit(kind); size > most {
		return 0, nil, fmt.Errorf("unexpected frame %q of %d bytes", byte(kind), size)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		return 0, nil, fmt.Errorf("frame %q: %w", byte(kind), noEOF(err))
	}
	return kind, body, nil
}

// only accepts one kind of frame of at most limit bytes.
func only(kind frameKind, limit int64) func(frameKind) int64 {
	return func(k frameKind) int64 {
		if k != kind {
			return -1
		}
		return limit
	}
}

func readJSON(body []byte, v any) error {
	return strictjson.Unmarshal(body, v, strictjson.Limits{Bytes: maxControl, Depth: 4, RejectUnknown: true})
}

func writeJSON(w io.Writer, kind frameKind, v any) error {
	body, err := strictjson.MarshalCanonical(v)
	if err != nil {
		return err
	}
	return writeFrame(w, kind, body)
}

// noEOF makes an end inside a frame an error of its own.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// frameWriter sends what a guest writes to one stream.
type frameWriter struct {
	w    io.Writer
	kind frameKind
}

func (f frameWriter) Write(p []byte) (int, error) {
	sent := 0
	for sent < len(p) {
		part := p[sent:min(len(p), sent+maxOutput)]
		if err := writeFrame(f.w, f.kind, part); err != nil {
			return sent, err
		}
		sent += len(part)
	}
	return sent, nil
}
