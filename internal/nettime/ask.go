package nettime

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/beevik/ntp"
)

const (
	firstWait = 1500 * time.Millisecond // then once more: first packets on a fresh link are often lost
	maxRTT    = 4 * time.Second         // an answer that took longer says too little
	slack     = time.Millisecond        // for the rounding of time stamps
	headerLen = 48                      // bytes of an NTP packet without extension fields
)

// asking is one Ask; it does not change while it is used.
type asking struct {
	query  Query // with its defaults
	clock  clock
	dialer *net.Dialer
}

// ask gets one server's answer. With NTS it counts only if the certificates
// that vouch for the server hold at the time it gives.
func (a *asking) ask(ctx context.Context, t target) (reading, error) {
	if !t.nts {
		return a.insist(ctx, t.hostPort(), nil)
	}
	keys, err := a.exchangeKeys(ctx, t)
	if err != nil {
		return reading{}, err
	}
	r, err := a.insist(ctx, keys.server, keys)
	if err != nil {
		return reading{}, err
	}
	if err := keys.chain.holds(r.time().Add(time.Since(a.clock.began))); err != nil {
		return reading{}, err
	}
	return r, nil
}

// insist asks with one repetition if nothing comes; keys is nil without NTS.
func (a *asking) insist(ctx context.Context, address string, keys *session) (reading, error) {
	wait := min(firstWait, a.query.Timeout/3)
	r, err := a.exchange(ctx, address, keys, wait)
	silent := errors.Is(err, ErrNoAnswer) || errors.Is(err, ErrNotAuthentic) && !errors.Is(err, errNAK)
	if silent && ctx.Err() == nil {
		return a.exchange(ctx, address, keys, a.query.Timeout)
	}
	return r, err
}

// exchange asks once and waits for the answer; keys is nil without NTS.
func (a *asking) exchange(ctx context.Context, address string, keys *session, wait time.Duration) (reading, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	d := &dialogue{}
	var times []time.Time // when the question left and when the answer came
	opt := ntp.QueryOptions{
		Timeout: wait,
		GetSystemTime: func() time.Time {
			times = append(times, origin.Add(time.Since(a.clock.began)))
			return times[len(times)-1]
		},
		Dialer: func(_, remote string) (net.Conn, error) {
			var err error
			d.Conn, err = a.dial(ctx, "udp", remote)
			return d, err
		},
	}
	if keys != nil {
		q, err := keys.question()
		if err != nil {
			return reading{}, err
		}
		d.question = q
		opt.Extensions = []ntp.Extension{q}
	}
	response, err := ntp.QueryWithOptions(address, opt)
	if err != nil {
		return reading{}, d.explain(err)
	}
	return measure(response, times[0], times[len(times)-1])
}

// measure turns a response into a reading, if the response can be believed as
// such: the server says that it knows the time, and its time stamps do not
// contradict the time that passed here. sent and received are on the scale
// that begins at origin with Ask.
func measure(r *ntp.Response, sent, received time.Time) (reading, error) {
	if r.IsKissOfDeath() {
		return reading{}, fmt.Errorf("%w: the server asks not to be asked (%s)", ErrUnusable, clean(r.KissCode))
	}
	if err := r.Validate(); err != nil {
		return reading{}, fmt.Errorf("%w: %w", ErrUnusable, err)
	}
	const era = 1 << 32 * time.Second
	last := r.Time.Sub(received) // the offset by the server's last time stamp alone, which knows its era
	offset := r.ClockOffset
	switch {
	case last-offset > era/2:
		offset += era
	case last-offset < -era/2:
		offset -= era
	}
	rtt := received.Sub(sent)
	if half := offset - last; half < -slack || half > rtt/2+slack {
		return reading{}, fmt.Errorf("%w: its time stamps contradict the time that passed", ErrUnusable)
	}
	if rtt > maxRTT {
		return reading{}, fmt.Errorf("%w: it took %s", ErrUnusable, roundTime(rtt))
	}
	return reading{ahead: offset, rtt: rtt, stratum: r.Stratum}, nil
}

// dialogue is a connection to a time server on which only answers to the
// question come in. Others, from whoever can send packets here, are passed
// over while the wait goes on.
type dialogue struct {
	net.Conn
	question *question // nil without NTS

	sent     [8]byte // the transmit time stamp, which is random and comes back
	foreign  int     // packets that belong to no question of ours
	unproven int     // answers whose authenticator is missing or does not fit
}

// errNAK is a server's word that it no longer knows the key. Anybody can say
// so; it only ends the wait.
var errNAK = fmt.Errorf("%w: the server does not know the key of its exchange (NTS NAK)", ErrNotAuthentic)

// Write sends the question and remembers what its answer must hold.
func (d *dialogue) Write(p []byte) (int, error) {
	if len(p) >= headerLen {
		copy(d.sent[:], p[40:48])
	}
	return d.Conn.Write(p)
}

// Read returns the next packet that answers the question, or the connection's
// error at its deadline.
func (d *dialogue) Read(p []byte) (int, error) {
	for {
		n, err := d.Conn.Read(p)
		if err != nil {
			return 0, err
		}
		switch packet := p[:n]; {
		case !d.belongs(packet):
			d.foreign++
		case d.question == nil:
			return n, nil
		case d.question.refused(packet):
			return 0, errNAK
		case d.question.verify(packet) != nil:
			d.unproven++
		default:
			return n, nil
		}
	}
}

// belongs: a server's answer (mode 4) with the question's time stamp as origin.
func (d *dialogue) belongs(p []byte) bool {
	return len(p) >= headerLen && p[0]&7 == 4 && bytes.Equal(p[24:32], d.sent[:])
}

// explain puts the failure of an exchange into our words.
func (d *dialogue) explain(err error) error {
	var t net.Error
	switch silent := errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) || errors.As(err, &t) && t.Timeout(); {
	case silent && d.unproven > 0:
		return fmt.Errorf("%w: the authenticator is missing or does not fit in %d packets", ErrNotAuthentic, d.unproven)
	case silent && d.foreign > 0:
		return fmt.Errorf("%w; %d packets that do not belong to the question came instead", ErrNoAnswer, d.foreign)
	case silent:
		return ErrNoAnswer
	case ours(err):
		return err
	case d.Conn == nil || d.sent == [8]byte{}:
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return fmt.Errorf("%w: %w", ErrUnreachable, op.Err)
	}
	return fmt.Errorf("%w: %w", ErrUnusable, err)
}

// ours reports whether an error has its kind already.
func ours(err error) bool {
	for _, kind := range []error{ErrNoAnswer, ErrUnreachable, ErrUnusable, ErrKeyExchange, ErrNotAuthentic, ErrDates, ErrNotLocal} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// be16 reads a big-endian number of two bytes.
func be16(p []byte) int { return int(binary.BigEndian.Uint16(p)) }
