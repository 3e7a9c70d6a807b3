package vm

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

// logOf builds a log: a head that counts the entries, and what it is given.
func logOf(count uint64, entries ...[]byte) []byte {
	head := make([]byte, logSector)
	le := binary.LittleEndian
	le.PutUint64(head, logMagic)
	le.PutUint64(head[8:], logVersion)
	le.PutUint64(head[16:], count)
	le.PutUint32(head[24:], logSector)
	return append(head, bytes.Join(entries, nil)...)
}

// logged is one entry, followed by data that fills its sectors.
func logged(sector, sectors, flags uint64, fill byte) []byte {
	entry := make([]byte, logSector)
	le := binary.LittleEndian
	le.PutUint64(entry, sector)
	le.PutUint64(entry[8:], sectors)
	le.PutUint64(entry[16:], flags)
	if flags&logDiscard == 0 {
		entry = append(entry, bytes.Repeat([]byte{fill}, int(sectors)*logSector)...)
	}
	return entry
}

func TestReadWriteLog(t *testing.T) {
	raw := logOf(5, logged(2, 1, 0, 'a'), logged(0, 0, logFlush, 0), logged(8, 2, logFlush|logFUA, 'b'),
		logged(16, 4, logDiscard, 0), logged(0, 1, 0, 'c'), []byte("left over"))
	got, err := ReadWriteLog(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	sector := func(fill byte, n int) []byte { return bytes.Repeat([]byte{fill}, n*logSector) }
	want := []Write{
		{Offset: 1024, Data: sector('a', 1)}, {Flush: true},
		{Flush: true}, {Offset: 4096, Data: sector('b', 2)}, {Flush: true},
		{Offset: 8192, Discard: 2048}, {Data: sector('c', 1)},
	}
	if len(got) != len(want) {
		t.Fatalf("%d requests, want %d", len(got), len(want))
	}
	for i, w := range want {
		g := got[i]
		if g.Offset != w.Offset || g.Flush != w.Flush || g.Discard != w.Discard || !bytes.Equal(g.Data, w.Data) {
			t.Errorf("request %d is %+v, want %+v", i, g, w)
		}
	}
}

func TestWriteLogRefused(t *testing.T) {
	change := func(at int, value byte) []byte {
		raw := logOf(1, logged(0, 1, 0, 'a'))
		raw[at] = value
		return raw
	}
	for name, tt := range map[string]struct {
		raw  []byte
		want string // part of the error
	}{
		"empty":              {nil, "head"},
		"other magic":        {change(0, 0), "no write log"},
		"other version":      {change(8, 2), "no write log"},
		"other sectors":      {change(25, 0x10), "sectors of 4096 bytes"},
		"too many entries":   {logOf(1 << 40), "claims"},
		"fewer entries":      {logOf(2, logged(0, 1, 0, 'a')), "entry 1 of 2"},
		"cut in the data":    {logOf(1, logged(0, 2, 0, 'a')[:logSector*2]), "entry 0 of 1"},
		"beyond any disk":    {logOf(1, logged(1<<60, 0, 0, 0)), "on no disk"},
		"an enormous write":  {logOf(1, binary.LittleEndian.AppendUint64(make([]byte, 8), 1<<30), make([]byte, logSector)), "a request of"},
		"sectors that shift": {logOf(1, binary.LittleEndian.AppendUint64(make([]byte, 8), 1<<60), make([]byte, logSector)), "on no disk"},
	} {
		if _, err := ReadWriteLog(bytes.NewReader(tt.raw)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, tt.want)
		}
	}
}
