package blobwire

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"github.com/phasebased/phase/blob"
)

var some = blob.Of([]byte("some"))

func TestRequests(t *testing.T) {
	for name, c := range map[string]struct {
		r  Request
		ok bool
	}{
		"where":             {Request{Kind: Where, Blob: some}, true},
		"read":              {Request{Kind: Read, Blob: some, Offset: 7, Length: MaxLength}, true},
		"far away":          {Request{Kind: Read, Blob: some, Offset: math.MaxInt64 - 1, Length: 1}, true},
		"beyond all":        {Request{Kind: Read, Blob: some, Offset: math.MaxInt64, Length: 1}, false},
		"where with offset": {Request{Kind: Where, Blob: some, Offset: 1}, false},
		"where with length": {Request{Kind: Where, Blob: some, Length: 1}, false},
		"of nothing":        {Request{Kind: Read, Length: 1}, false},
		"nothing":           {Request{Kind: Read, Blob: some}, false},
		"too much":          {Request{Kind: Read, Blob: some, Length: MaxLength + 1}, false},
		"negative length":   {Request{Kind: Read, Blob: some, Length: -1}, false},
		"negative offset":   {Request{Kind: Read, Blob: some, Offset: -1, Length: 2}, false},
		"no kind":           {Request{Blob: some}, false},
		"unknown kind":      {Request{Kind: 3, Blob: some}, false},
	} {
		raw, err := c.r.Marshal()
		if !c.ok {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || len(raw) != RequestSize {
			t.Errorf("%s: %d bytes, %v", name, len(raw), err)
		}
		if got, err := Parse(raw); err != nil || got != c.r {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		for _, wrong := range [][]byte{nil, raw[:len(raw)-1], append(bytes.Clone(raw), 0)} {
			if _, err := Parse(wrong); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s with %d bytes: %v", name, len(wrong), err)
			}
		}
	}
}

func TestPlaces(t *testing.T) {
	for _, p := range []Place{{}, {Size: math.MaxInt64, Port: math.MaxUint16}} {
		if got, err := ParsePlace(p.Marshal()); err != nil || got != p {
			t.Errorf("%+v, %v", got, err)
		}
	}
	for _, wrong := range [][]byte{nil, make([]byte, PlaceSize-1), make([]byte, PlaceSize+1), Place{Size: -1}.Marshal()} {
		if _, err := ParsePlace(wrong); !errors.Is(err, ErrPlace) {
			t.Errorf("%x: %v", wrong, err)
		}
	}
}

func TestStatusInWords(t *testing.T) {
	seen := map[string]bool{}
	for s := range Status(StatusMalformed + 2) {
		seen[s.String()] = true
	}
	if len(seen) != int(StatusMalformed)+2 {
		t.Error(seen)
	}
}

// What is a request is so in one form only, and asks for what can be given.
func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := Parse(raw)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Error(err)
			}
			return
		}
		if again, err := r.Marshal(); err != nil || !bytes.Equal(again, raw) {
			t.Errorf("%x becomes %x, %v", raw, again, err)
		}
		if r.Length > MaxLength || r.Offset < 0 || r.Offset+r.Length < r.Offset {
			t.Errorf("%+v", r)
		}
	})
}
