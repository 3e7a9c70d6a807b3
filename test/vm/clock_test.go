package vm_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/nettime/nettimetest"
)

// direct are the options with which a seed that is started directly does what
// the medium's first entry does.
func (b *bench) direct(options string) string {
	return "phase.mode=internet phase.provider=" + b.ports.Base() + options
}

// TestClockIn1970 boots a machine whose clock has no battery: the medium knows
// that it is later, and the signed documents know how much.
func TestClockIn1970(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.offer(b.release(1), nil)
	outcome, console := b.boot(lab.BootOptions{RTC: time.Unix(0, 0), Direct: b.direct("")})
	b.verified(outcome, console)
	b.shows(console, "The clock shows 1970-01-01T")
	b.shows(console, "which cannot be; going on from "+labTime.Format(time.RFC3339)+" (image build time, floored)")
}

// TestNetworkTimeMovesForward gives the same machine a time server: its clock is
// set to what the server says, which no document could know.
func TestNetworkTimeMovesForward(t *testing.T) {
	t.Parallel()
	b := setup(t)
	server := newTimeServer(t)
	server.SetTime(time.Now().AddDate(0, 0, 3))
	b.offer(b.release(1), nil)
	outcome, console := b.boot(lab.BootOptions{RTC: time.Unix(0, 0), Direct: b.direct(" phase.time=" + server.guest)})
	b.verified(outcome, console)
	b.shows(console, "The clock was set to "+time.Now().AddDate(0, 0, 3).UTC().Format(time.DateOnly))
	b.shows(console, "(network time, floored)")
}

// TestClockIn2040 boots a machine whose clock is years ahead, which nobody there
// can know: everything has expired, and the message gives the clock away. A time
// server that does not prove who it is cannot move a clock back, and the one that
// could does not answer.
func TestClockIn2040(t *testing.T) {
	t.Parallel()
	b := setup(t)
	server := newTimeServer(t)
	r := b.release(1)
	b.publish(r, "")
	b.serve()
	b.medium(lab.ImageOptions{
		Options: "phase.provider=" + b.ports.Base(), Policy: timeOf(server.guest, net.JoinHostPort(lab.GuestHost, "1")),
	})
	outcome, console := b.boot(lab.BootOptions{RTC: time.Date(2040, 2, 29, 12, 0, 0, 0, time.UTC)})
	b.refused(outcome, console, codeExpired, "FATAL: pointer refused (expired)")
	b.says(outcome, r.PointerExpiry.Format(time.RFC3339), "2040-02-29T12:", "machine clock")
	if server.Asked() == 0 {
		t.Error("the time server was not asked")
	}
}

// TestNTSMendsAClockAhead gives that machine a server that proves who it is, by
// a certificate that ended years before the time the machine's clock shows: the
// clock is set back, and what was refused is accepted.
func TestNTSMendsAClockAhead(t *testing.T) {
	t.Parallel()
	b := setup(t)
	authority, cert := newAuthority(t)
	var err error
	if b.lab, err = b.lab.Trusting(b.Context(), authority); err != nil {
		t.Fatal(err)
	}
	outcome, console := b.bootIn2040(startChronyd(t, cert))
	b.verified(outcome, console)
	b.shows(console, "The clock was set to "+time.Now().UTC().Format(time.DateOnly))
	b.shows(console, "(authenticated network time, trusted)")
}

// TestNTSOfAStranger is the same without the authority in the medium: a clock
// that may be wrong makes no certificate good that nobody vouches for.
func TestNTSOfAStranger(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, cert := newAuthority(t)
	outcome, console := b.bootIn2040(startChronyd(t, cert))
	b.refused(outcome, console, codeExpired, "FATAL: pointer refused (expired)")
	b.says(outcome, "2040-02-29T12:", "machine clock")
}

// bootIn2040 boots an honest release from a medium that asks this server only.
func (b *bench) bootIn2040(server *nettimetest.Chronyd) (*lab.Outcome, string) {
	b.Helper()
	b.publish(b.release(1), "")
	b.serve()
	b.medium(lab.ImageOptions{
		Options: "phase.provider=" + b.ports.Base(), Policy: timeOf("", net.JoinHostPort(lab.GuestHost, server.NTSPort)),
	})
	return b.boot(lab.BootOptions{RTC: time.Date(2040, 2, 29, 12, 0, 0, 0, time.UTC)})
}

// TestClockIn2070 boots the machine of TestClockIn1970 through firmware, which
// takes the year 70 for 2070. No medium is of use for that long.
func TestClockIn2070(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.offer(b.release(1), nil)
	outcome, console := b.boot(lab.BootOptions{RTC: time.Unix(0, 0)})
	b.verified(outcome, console)
	b.shows(console, "The clock shows 2070-01-01T")
	b.shows(console, "(image build time, floored)")
}

// timeServer is an SNTP server and its address as a guest reaches it.
type timeServer struct {
	*nettimetest.Server
	guest string
}

func newTimeServer(t *testing.T) *timeServer {
	t.Helper()
	server, err := nettimetest.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Run(t.Context()) }()
	t.Cleanup(func() {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	_, port, err := net.SplitHostPort(server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	return &timeServer{server, net.JoinHostPort(lab.GuestHost, port)}
}

// shows asserts that the console shows a text, wherever it was wrapped.
func (b *bench) shows(console, text string) {
	b.Helper()
	if !strings.Contains(unwrap(console), unwrap(text)) {
		b.Errorf("the console does not show %q:\n%s", text, calm(console))
	}
}
