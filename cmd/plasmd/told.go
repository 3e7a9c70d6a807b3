package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/phasebased/phase/blob"
)

// told is what the network was told of what is served here, when, and who
// confirmed it: what happened, not what was meant to.
type told struct {
	Published     []published `json:"published"` // on the DHT; empty: nothing is
	PublishError  string      `json:"publish_error,omitempty"`
	Held          []held      `json:"held"` // blobs that others can find here through the DHT; empty: none
	HoldError     string      `json:"hold_error,omitempty"`
	Announced     *spoken     `json:"announced"` // on the local network; null: nothing is
	AnnounceError string      `json:"announce_error,omitempty"`
}

// published is a record that this node keeps on the DHT.
type published struct {
	Key            string    `json:"key"`
	At             time.Time `json:"at"`              // when it was published last
	AcknowledgedBy []string  `json:"acknowledged_by"` // other nodes that were found then to hold it
	Self           bool      `json:"self"`            // this node holds it as well, which confirms nothing
	Size           int       `json:"size"`            // bytes
	Expires        time.Time `json:"expires_at"`      // of the pointer; it is not published after that
}

// held is a blob that this node has announced on the DHT.
type held struct {
	Blob           blob.Digest `json:"blob"`
	At             time.Time   `json:"at"`              // when it was announced last
	AcknowledgedBy []string    `json:"acknowledged_by"` // other nodes that, asked afterwards, named this one
	Self           bool        `json:"self"`            // this node names itself as well, which confirms nothing
	Expires        time.Time   `json:"expires_at"`      // of the announcement, which is renewed before
}

// spoken is what is said on the local network.
type spoken struct {
	Instance string       `json:"instance"`
	Version  int64        `json:"manifest_version"`
	At       time.Time    `json:"at"` // when it was said first
	Port     int          `json:"port"`
	Addrs    []netip.Addr `json:"addrs"`
	Expires  time.Time    `json:"expires_at"` // of the pointer; it is not said after that
}

// now is what is told at this moment.
func (s *server) now() told {
	t := told{
		Published: []published{}, PublishError: text(s.publishErr), AnnounceError: text(s.speakErr),
		Held: []held{}, HoldError: text(s.holdErr),
	}
	if s.peer != nil {
		for _, p := range s.peer.Publications() {
			if !p.Expires.After(time.Now()) {
				continue
			}
			others, self := s.others(p.Last.AcknowledgedBy)
			t.Published = append(t.Published, published{
				Key: p.Last.Key, At: p.Last.At.UTC(), AcknowledgedBy: others, Size: p.Last.Size,
				Self: self, Expires: p.Expires.UTC(),
			})
			t.PublishError = cmp.Or(t.PublishError, text(p.Err))
		}
		s.addHeld(&t)
	}
	if s.voice != nil {
		said := s.voice.Announced()
		addrs := slices.SortedFunc(slices.Values(said.Addrs), netip.Addr.Compare)
		t.Announced = &spoken{
			Instance: said.Instance, Version: s.spoken.Version, At: said.At.UTC(), Port: said.Port,
			Addrs: append([]netip.Addr{}, addrs...), Expires: s.spoken.Expires,
		}
	}
	return t
}

// addHeld adds the announcements that are believed still.
func (s *server) addHeld(t *told) {
	for _, h := range s.peer.Held() {
		if h.At.IsZero() || !h.Expires().After(time.Now()) {
			t.HoldError = cmp.Or(t.HoldError, text(h.Err))
			continue
		}
		others, self := s.others(h.AcknowledgedBy)
		t.Held = append(t.Held, held{
			Blob: h.Blob, At: h.At.UTC(), AcknowledgedBy: others, Self: self, Expires: h.Expires().UTC(),
		})
		t.HoldError = cmp.Or(t.HoldError, text(h.Err))
	}
}

// others are those of ids that are not this node's, and whether that is among
// them.
func (s *server) others(ids []string) (others []string, self bool) {
	others = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return id == s.peer.ID() })
	return nonNil(others), len(others) < len(ids)
}

// tellCaller reports what is told now, if that is news.
func (s *server) tellCaller() error {
	now := s.now()
	if before := s.said.Load(); before != nil && reflect.DeepEqual(*before, now) {
		return nil
	}
	s.said.Store(&now)
	return s.report(now)
}

// network is what the provider's status says of it.
func (s *server) network() any {
	if t := s.said.Load(); t != nil {
		return *t
	}
	return nil
}

// String is for people, in one line.
func (t told) String() string {
	line := "not announced on the local network"
	if a := t.Announced; a != nil {
		name, _, _ := strings.Cut(a.Instance, ".")
		line = fmt.Sprintf("release %d announced on the local network as %s", a.Version, name)
	}
	for _, p := range t.Published {
		line += fmt.Sprintf(", and on the DHT as %s, confirmed by %s", p.Key, confirmed(p.AcknowledgedBy))
	}
	return line
}

// confirmed says, for people, how many others there are.
func confirmed(by []string) string {
	switch others := len(by); others {
	case 0:
		return "no other node"
	case 1:
		return "1 other node"
	default:
		return fmt.Sprintf("%d other nodes", others)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
