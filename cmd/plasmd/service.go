package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/phasebased/phase/internal/node"
	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/internal/sdnotify"
)

// A service tells the manager that started this process, such as systemd, how it is.
// Without a manager all of it does nothing.
type service struct {
	notify  *sdnotify.Notifier // nil: there is no manager
	patient time.Duration      // how long the manager waits for a sign of life; 0: it does not
	log     *slog.Logger
}

// lookAfter is how often the manager is told how the node is, where it does not ask
// for more.
const lookAfter = 30 * time.Second

// systemService goes by what systemd leaves in the environment (sd_notify(3),
// sd_watchdog_enabled(3)). A manager that cannot be reached will say so itself.
func systemService(log *slog.Logger) *service {
	s, err := openService(os.Getenv("NOTIFY_SOCKET"), os.Getenv("WATCHDOG_USEC"), os.Getenv("WATCHDOG_PID"))
	s.log = log
	if err != nil {
		log.Warn("the service manager cannot be told anything", "err", err)
	}
	return s
}

func openService(socket, usec, pid string) (*service, error) {
	s := &service{}
	notify, err := sdnotify.Dial(socket)
	if err != nil || notify == nil {
		return s, err
	}
	s.notify = notify
	if pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return s, nil // another process is watched
	}
	if micros, err := strconv.ParseUint(usec, 10, 40); err == nil {
		s.patient = time.Duration(micros) * time.Microsecond
	}
	return s, nil
}

func (s *service) close() { _ = s.notify.Close() }

// said logs that the manager was not told.
func (s *service) said(err error) {
	if err != nil {
		s.log.Warn("the service manager was not told", "err", err)
	}
}

// watch tells the manager how the node is until ctx ends, and feeds its watchdog for
// as long as all parts answer.
func (s *service) watch(ctx context.Context, probes []sdnotify.Probe, status func() string) {
	if s.notify == nil {
		return
	}
	tell, every, patience := s.notify.Status, lookAfter, lookAfter
	if s.patient > 0 {
		// A look and the next one, if the first came just before a part hung.
		tell, every, patience = s.notify.Alive, s.patient/4, s.patient/2
	}
	last := ""
	w := sdnotify.Watchdog{
		Every: every, Patience: patience, Probes: probes,
		Alive: func(trouble error) {
			text := status()
			if trouble != nil {
				text = "in trouble: " + oneLine(trouble) + "; " + text
			}
			if now := oneLine(trouble); now != last {
				last = now
				s.log.Log(ctx, levelOf(trouble), "a look at the node's parts", "trouble", now)
			}
			s.said(tell(text))
		},
		Hangs: func(parts []string) {
			last = "hangs"
			s.log.Error("parts of the node do not answer", "parts", parts, "within", patience)
			s.said(s.notify.Status("does not answer: " + strings.Join(parts, ", ")))
		},
	}
	w.Run(ctx)
}

func levelOf(trouble error) slog.Level {
	if trouble == nil {
		return slog.LevelInfo
	}
	return slog.LevelError
}

// oneLine is an error's text, and "" for none.
func oneLine(err error) string { return strings.ReplaceAll(text(err), "\n", "; ") }

// parts are what the node consists of. To answer, each has to take the locks that
// its work takes, or do some of it.
func (d *daemon) parts(peer *p2p.Node, offered *server) []sdnotify.Probe {
	probes := []sdnotify.Probe{
		{Name: "queue", Ask: func(context.Context) error { d.node.Load(); return nil }},
		{Name: "sandbox", Ask: d.node.Probe},
		{Name: "network", Ask: func(context.Context) error { peer.Addrs(); peer.Peers(); return nil }},
	}
	if offered != nil {
		probes = append(probes, sdnotify.Probe{Name: "HTTP", Ask: offered.answers})
	}
	return probes
}

// answers asks the HTTP server from outside, as a client would. That it refuses is
// an answer.
func (s *server) answers(ctx context.Context) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", strings.TrimPrefix(s.url(), "http://"))
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := io.WriteString(conn, "GET /health HTTP/1.0\r\n\r\n"); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, conn, 1); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// status is one line for people, about a node at work.
func status(load node.Load, peers int) string {
	return fmt.Sprintf("%s; %s running, %d waiting, %d ended, %d refused",
		count(peers, "peer"), count(load.Running, "job"), load.Waiting, load.Ended, load.Refused)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
