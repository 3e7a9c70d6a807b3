// Package sdnotify tells a service manager, such as systemd, how a daemon is: that
// it serves, that it is alive, that it stops (sd_notify(3)). It is the two dozen lines
// of the protocol itself, because a library would read the process environment on its
// own.
//
// The manager is trusted with nothing but the words sent to it, and is not waited
// for: a full socket loses a message, and a watchdog that lost several in a row may
// as well restart the daemon.
package sdnotify

import (
	"fmt"
	"net"
	"strings"
	"time"
)

// maxStatus bounds a status in bytes. It is one line of systemctl status.
const maxStatus = 400

// sendTimeout is how long a message may take. The manager has to read it.
const sendTimeout = 5 * time.Second

// A Notifier has a manager's socket. A nil one sends nothing, which is what a process
// without a manager wants. It is safe for concurrent use.
type Notifier struct{ conn *net.UnixConn }

// Dial opens the socket that NOTIFY_SOCKET names: a path, or an abstract name after
// "@". An empty name gives nil: there is no manager.
func Dial(socket string) (*Notifier, error) {
	if socket == "" {
		return nil, nil
	}
	if socket[0] != '/' && socket[0] != '@' {
		return nil, fmt.Errorf("sdnotify: %.100q is neither a path nor an abstract name", socket)
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("sdnotify: %w", err)
	}
	return &Notifier{conn}, nil
}

// Close closes the socket.
func (n *Notifier) Close() error {
	if n == nil {
		return nil
	}
	return n.conn.Close()
}

// Ready says that the daemon serves.
func (n *Notifier) Ready(status string) error { return n.send("READY=1", statusLine(status)) }

// Alive feeds the manager's watchdog, and says how the daemon is.
func (n *Notifier) Alive(status string) error { return n.send("WATCHDOG=1", statusLine(status)) }

// Status says how the daemon is, in one line for people.
func (n *Notifier) Status(status string) error { return n.send(statusLine(status)) }

// Stopping says that the daemon ends.
func (n *Notifier) Stopping(status string) error { return n.send("STOPPING=1", statusLine(status)) }

func (n *Notifier) send(lines ...string) error {
	if n == nil {
		return nil
	}
	if err := n.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return fmt.Errorf("sdnotify: %w", err)
	}
	if _, err := n.conn.Write([]byte(strings.Join(lines, "\n"))); err != nil {
		return fmt.Errorf("sdnotify: %w", err)
	}
	return nil
}

// statusLine cannot be taken for two: what comes after a line's end would be an
// assignment of its own.
func statusLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > maxStatus {
		text = strings.ToValidUTF8(text[:maxStatus], "") + "…"
	}
	return "STATUS=" + text
}
