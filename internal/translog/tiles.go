package translog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/phasebased/phase/internal/durable"
)

// The shape of tiles, C2SP tlog-tiles.
const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
	maxBundle  = tileWidth * (2 + MaxEntrySize) // bytes
)

// entriesLevel stands for the bundles of entries, which are counted like the
// tiles of level 0.
const entriesLevel = -1

// tilePath is where a tile lies below the log's folder. N is written in
// groups of three digits, all but the last with an "x" before them; a tile
// that is not full has its width behind it.
func tilePath(level int, n int64, width int) string {
	digits := fmt.Sprintf("%03d", n%1000)
	for n /= 1000; n > 0; n /= 1000 {
		digits = fmt.Sprintf("x%03d/%s", n%1000, digits)
	}
	name := strconv.Itoa(level)
	if level == entriesLevel {
		name = "entries"
	}
	path := "tile/" + name + "/" + digits
	if width < tileWidth {
		path += ".p/" + strconv.Itoa(width)
	}
	return filepath.FromSlash(path)
}

// partialDir is the folder of the partial versions of a tile.
func partialDir(level int, n int64) string {
	return filepath.Dir(tilePath(level, n, 1))
}

// tileFolder reads tiles from a log's folder. It is a tlog.TileReader: what it
// returns is not trusted until package tlog has checked it.
type tileFolder string

// Height implements tlog.TileReader.
func (tileFolder) Height() int { return tileHeight }

// SaveTiles implements tlog.TileReader.
func (tileFolder) SaveTiles([]tlog.Tile, [][]byte) {}

// ReadTiles implements tlog.TileReader.
func (f tileFolder) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	for i, t := range tiles {
		var err error
		if data[i], err = f.hashes(t.L, t.N, t.W); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// hashes reads the first width hashes of a tile: from the file of that width,
// or else from the full one, which replaces it when there is one.
func (f tileFolder) hashes(level int, n int64, width int) ([]byte, error) {
	want := width * tlog.HashSize
	data, err := readBounded(filepath.Join(string(f), tilePath(level, n, width)), want)
	if errors.Is(err, fs.ErrNotExist) && width < tileWidth {
		data, err = readBounded(filepath.Join(string(f), tilePath(level, n, tileWidth)), tileWidth*tlog.HashSize)
	}
	if err != nil {
		return nil, err
	}
	if len(data) < want {
		return nil, fmt.Errorf("%s: %d bytes, want %d", tilePath(level, n, width), len(data), want)
	}
	return data[:want], nil
}

// entries reads the first width entries of a bundle, without trusting them.
func (f tileFolder) entries(n int64, width int) ([][]byte, error) {
	have := width
	data, err := readBounded(filepath.Join(string(f), tilePath(entriesLevel, n, width)), maxBundle)
	if errors.Is(err, fs.ErrNotExist) && width < tileWidth {
		have = tileWidth
		data, err = readBounded(filepath.Join(string(f), tilePath(entriesLevel, n, tileWidth)), maxBundle)
	}
	if err != nil {
		return nil, err
	}
	entries, err := parseBundle(data, have)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", tilePath(entriesLevel, n, width), err)
	}
	return entries[:width], nil
}

// appendEntry adds an entry to the bytes of a bundle.
func appendEntry(bundle, entry []byte) []byte {
	bundle = binary.BigEndian.AppendUint16(bundle, uint16(len(entry)))
	return append(bundle, entry...)
}

// parseBundle takes a bundle of exactly count entries apart.
func parseBundle(data []byte, count int) ([][]byte, error) {
	entries := make([][]byte, 0, count)
	for len(data) > 0 {
		if len(data) < 2 {
			return nil, errors.New("cut short")
		}
		size := int(binary.BigEndian.Uint16(data))
		if data = data[2:]; len(data) < size {
			return nil, errors.New("cut short")
		}
		if len(entries) == count {
			return nil, fmt.Errorf("more than %d entries", count)
		}
		entries = append(entries, data[:size:size])
		data = data[size:]
	}
	if len(entries) != count {
		return nil, fmt.Errorf("%d entries, want %d", len(entries), count)
	}
	return entries, nil
}

// readBounded reads a file of at most limit bytes in a log's folder, which may
// come from a stranger: no link is followed, no pipe waited for.
func readBounded(path string, limit int) ([]byte, error) {
	return durable.ReadSmall(path, limit, durable.RefuseLinks)
}
