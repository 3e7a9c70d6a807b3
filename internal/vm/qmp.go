package vm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// maxQMPLine bounds one message of QEMU's monitor; the answers to the few
// commands used here are far smaller.
const maxQMPLine = 1 << 20

// monitor speaks QMP, QEMU's machine protocol: JSON messages, one per line
// (https://www.qemu.org/docs/master/interop/qmp-spec.html).
type monitor struct {
	conn io.ReadWriter

	mu       sync.Mutex // guards the rest and writes to conn
	id       int
	waiting  map[int]chan qmpMessage
	shutdown string // reason of the last SHUTDOWN event
	ended    bool

	ready chan struct{} // closed when QEMU has greeted
}

type qmpMessage struct {
	QMP    json.RawMessage `json:"QMP"`
	ID     int             `json:"id"`
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	Event string `json:"event"`
	Data  struct {
		Reason string `json:"reason"`
	} `json:"data"`
}

var errMonitorEnded = errors.New("QEMU's monitor connection has ended")

func newMonitor(conn io.ReadWriter) *monitor {
	return &monitor{conn: conn, waiting: map[int]chan qmpMessage{}, ready: make(chan struct{})}
}

// read handles QEMU's messages until the connection ends.
func (m *monitor) read() {
	sc := bufio.NewScanner(m.conn)
	sc.Buffer(make([]byte, 0, 4096), maxQMPLine)
	for sc.Scan() {
		var msg qmpMessage
		if json.Unmarshal(sc.Bytes(), &msg) == nil {
			m.handle(msg)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = true
	for id, ch := range m.waiting {
		delete(m.waiting, id)
		close(ch)
	}
}

func (m *monitor) handle(msg qmpMessage) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case msg.QMP != nil:
		// Negotiation must come first; its answer has id 0 and is not awaited.
		// A failed write shows as the end of the connection.
		_, _ = io.WriteString(m.conn, `{"execute":"qmp_capabilities"}`+"\n")
		select {
		case <-m.ready:
		default:
			close(m.ready)
		}
	case msg.Event == "SHUTDOWN":
		m.shutdown = msg.Data.Reason
	case m.waiting[msg.ID] != nil:
		m.waiting[msg.ID] <- msg
		delete(m.waiting, msg.ID)
	}
}

// reason says why the guest stopped, in QEMU's words: guest-shutdown,
// guest-reset, guest-panic, host-qmp-quit, host-signal …; empty if unknown.
func (m *monitor) reason() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.shutdown
}

// do sends one command and waits for its answer.
func (m *monitor) do(ctx context.Context, command string, arguments any) error {
	answer, err := m.send(command, arguments)
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	select {
	case msg, ok := <-answer:
		switch {
		case !ok:
			return fmt.Errorf("%s: %w", command, errMonitorEnded)
		case msg.Error != nil:
			return fmt.Errorf("%s: %s", command, msg.Error.Desc)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", command, context.Cause(ctx))
	}
}

func (m *monitor) send(command string, arguments any) (<-chan qmpMessage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
		return nil, errMonitorEnded
	}
	m.id++
	data, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        int    `json:"id"`
	}{command, arguments, m.id})
	if err != nil {
		return nil, err
	}
	if _, err := m.conn.Write(append(data, '\n')); err != nil {
		return nil, err
	}
	ch := make(chan qmpMessage, 1)
	m.waiting[m.id] = ch
	return ch, nil
}
