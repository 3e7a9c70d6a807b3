package p2p

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
)

// PeerError is why one peer could not be used.
type PeerError struct {
	Peer string // its ID, or the name behind which peers were expected
	Err  error
}

// UnreachableError says that nobody on the DHT answered.
type UnreachableError struct {
	Peers []PeerError // the bootstrap peers; empty if none were configured
	Err   error       // why the attempt ended early: ctx.Err(), or nil
}

func (e *UnreachableError) Error() string {
	var b strings.Builder
	switch {
	case len(e.Peers) == 0 && e.Err == nil:
		b.WriteString("no bootstrap peer is configured")
	case len(e.Peers) == 1:
		b.WriteString("the bootstrap peer did not answer")
	default:
		fmt.Fprintf(&b, "none of %d bootstrap peers answered", len(e.Peers))
	}
	for _, p := range e.Peers {
		fmt.Fprintf(&b, "; %s: %s", shortID(p.Peer), plain(p.Err))
	}
	if e.Err != nil {
		fmt.Fprintf(&b, "; gave up: %s", e.Err)
	}
	return b.String()
}

// Unwrap exposes why the attempt ended early.
func (e *UnreachableError) Unwrap() error { return e.Err }

// Code is DISC-010 without any configured peer, DISC-011 otherwise.
func (e *UnreachableError) Code() string {
	if len(e.Peers) == 0 {
		return "DISC-010"
	}
	return "DISC-011"
}

// Hint says what to do next.
func (e *UnreachableError) Hint() string {
	if len(e.Peers) == 0 {
		return "name a bootstrap peer as /ip4/<address>/tcp/<port>/p2p/<id>, or /dnsaddr/<name>"
	}
	if !slices.ContainsFunc(e.Peers, func(p PeerError) bool { return !strings.HasPrefix(p.Peer, "/") }) {
		return "check that the name server answers, and that _dnsaddr.<name> has TXT records of the form dnsaddr=/ip4/<address>/tcp/<port>/p2p/<id>"
	}
	return "check that a bootstrap peer runs, that its ID is right, and that no firewall blocks its TCP port"
}

// failures is why peers, or names of peers, could not be used, by their label.
type failures map[string]error

// list is ordered by label.
func (f failures) list() []PeerError {
	var out []PeerError
	for _, label := range slices.Sorted(maps.Keys(f)) {
		out = append(out, PeerError{Peer: label, Err: f[label]})
	}
	return out
}

// unreachable composes the error of an attempt in which nobody answered.
func (n *Node) unreachable(ctx context.Context, failed failures) error {
	e := &UnreachableError{Err: ctx.Err()}
	var labels []string
	for _, l := range n.bootstrap {
		if l.id == "" && failed[l.label()] == nil && len(n.behind(l)) > 0 {
			continue // its peers are listed
		}
		labels = append(labels, l.label())
	}
	for _, p := range n.starters() {
		if !slices.Contains(labels, p.String()) {
			labels = append(labels, p.String())
		}
	}
	for _, label := range labels {
		err := failed[label]
		if err == nil {
			err = errors.New("no answer yet")
		}
		e.Peers = append(e.Peers, PeerError{Peer: label, Err: err})
	}
	return e
}

// plain is the text of err on one line, without the swarm's repetitions.
func plain(err error) string {
	var dial *swarm.DialError
	if !errors.As(err, &dial) || len(dial.DialErrors) == 0 {
		return strings.ReplaceAll(err.Error(), "\n", " ")
	}
	var causes []string
	for _, d := range dial.DialErrors {
		text := strings.ReplaceAll(d.Cause.Error(), "\n", " ")
		if errors.Is(d.Cause, swarm.ErrGaterDisallowedConnection) {
			text = errNotLocal.Error()
		}
		if !slices.Contains(causes, text) {
			causes = append(causes, text)
		}
	}
	return strings.Join(causes, ", ")
}

// shortID keeps the end of a peer ID, which is what tells peers apart; a name
// stays whole.
func shortID(id string) string {
	if len(id) <= 12 || id[0] == '/' {
		return id
	}
	return "…" + id[len(id)-8:]
}

// isEOF tells an orderly end of a stream from a reset.
func isEOF(err error) bool {
	return errors.Is(err, io.EOF) && !errors.Is(err, network.ErrReset)
}
