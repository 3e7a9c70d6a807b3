package main

import (
	"cmp"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"
)

// told is what the network was told of what is served here, when, and who
// confirmed it: what happened, not what was meant to.
type told struct {
	Published     []published `json:"published"` // on the DHT; empty: nothing is
	PublishError  string      `json:"publish_error,omitempty"`
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
	t := told{Published: []published{}, PublishError: text(s.publishErr), AnnounceError: text(s.speakErr)}
	if s.peer != nil {
		for _, p := range s.peer.Publications() {
			if !p.Expires.After(time.Now()) {
				continue
			}
			others := slices.DeleteFunc(slices.Clone(p.Last.AcknowledgedBy), func(id string) bool { return id == s.peer.ID() })
			t.Published = append(t.Published, published{
				Key: p.Last.Key, At: p.Last.At.UTC(), AcknowledgedBy: nonNil(others), Size: p.Last.Size,
				Self: len(others) < len(p.Last.AcknowledgedBy), Expires: p.Expires.UTC(),
			})
			t.PublishError = cmp.Or(t.PublishError, text(p.Err))
		}
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
		line += fmt.Sprintf(", and on the DHT as %s, confirmed by %s", p.Key, p.confirmed())
	}
	return line
}

// confirmed says, for people, how many others hold the record.
func (p published) confirmed() string {
	switch others := len(p.AcknowledgedBy); others {
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
