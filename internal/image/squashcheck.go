package image

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"slices"
)

// checkSquashfs reads the squashfs at path back and fails unless it holds, for
// each file of the tree, one with this content, and no others. It catches a tool
// that mixes up contents; names and modes are not compared.
func checkSquashfs(path string, entries []*Entry) error {
	want, err := contentsOf(entries)
	if err != nil {
		return err
	}
	in, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("image: squashfs: %w", err)
	}
	defer in.Close()
	p, err := openSquash(in)
	if err != nil {
		return err
	}
	defer p.dec.Close()
	got, err := p.contents()
	if err != nil {
		return err
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		return fmt.Errorf("image: squashfs: mksquashfs mixed up the contents of files")
	}
	return nil
}

// contentsOf lists the digests of all files.
func contentsOf(entries []*Entry) ([]string, error) {
	var list []string
	for _, e := range entries {
		if !e.Mode.IsRegular() {
			continue
		}
		h := sha256.New()
		if err := copyEntry(h, e); err != nil {
			return nil, err
		}
		list = append(list, string(h.Sum(nil)))
	}
	return list, nil
}

// contents lists the digests of all files of the squashfs.
func (p *squashPacker) contents() ([]string, error) {
	var files, fragments []extent
	if err := p.walk(func(e extent) error {
		if e.file != nil {
			files = append(files, e)
		} else {
			fragments = append(fragments, e)
		}
		return p.note(e)
	}); err != nil {
		return nil, err
	}
	var list []string
	r := squashReader{squashPacker: p, fragments: fragments, last: noFragment}
	for _, f := range files {
		h := sha256.New()
		if err := r.copy(h, f); err != nil {
			return nil, fmt.Errorf("image: squashfs: %w", err)
		}
		list = append(list, string(h.Sum(nil)))
	}
	return list, nil
}

// A squashReader reads files of a squashfs. It keeps the last block of fragments:
// neighbours usually share one.
type squashReader struct {
	*squashPacker
	fragments []extent
	last      int64
	held      []byte
}

func (r *squashReader) copy(w io.Writer, e extent) error {
	at, left := startOf(e.start), e.file.size
	for word := range slices.Chunk(e.sizes, 4) {
		plain := make([]byte, min(left, r.blockSize()))
		if w := binary.LittleEndian.Uint32(word); w != 0 {
			var err error
			if plain, err = r.plain(at); err != nil {
				return err
			}
			at += int64(w &^ blockStored)
		}
		if _, err := w.Write(plain); err != nil {
			return err
		}
		left -= int64(len(plain))
	}
	if left <= 0 || e.file.fragment == noFragment {
		return nil
	}
	return r.copyFragment(w, *e.file, left)
}

// copyFragment copies the end of a file, n bytes.
func (r *squashReader) copyFragment(w io.Writer, f squashFile, n int64) error {
	if f.fragment >= int64(len(r.fragments)) {
		return errSquash
	}
	if r.last != f.fragment {
		var err error
		if r.held, err = r.plain(startOf(r.fragments[f.fragment].start)); err != nil {
			return err
		}
		r.last = f.fragment
	}
	if f.offset+n > int64(len(r.held)) {
		return errSquash
	}
	_, err := w.Write(r.held[f.offset : f.offset+n])
	return err
}
