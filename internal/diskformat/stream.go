package diskformat

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"

	"github.com/phasebased/phase/internal/guid"
)

// VMDK, "streamOptimized": compressed grains, each behind a marker that says
// which it is, then the tables, the directory and the footer, which is the header
// that counts. It is what appliances hold; importing it makes a disk of it.
const (
	streamEnd       = 0
	streamTable     = 1
	streamDirectory = 2
	streamFooter    = 3
)

type stream struct {
	*sink
	size      int64
	name      string
	directory []uint32
	table     []uint32
	open      int64
	next      int64
	packer    *zlib.Writer
	packed    bytes.Buffer
}

func newStream(out *sink, size int64, name string) (*stream, error) {
	s := &stream{sink: out, size: roundUp(size, sector), name: name, open: -1, table: make([]uint32, vmdkTable)}
	s.directory = make([]uint32, roundUp(s.size, vmdkSpan)/vmdkSpan)
	s.next = vmdkGrain
	var err error
	s.packer, err = zlib.NewWriterLevel(&s.packed, zlib.BestSpeed)
	return s, err
}

func (s *stream) blockSize() int64 { return vmdkGrain }

func (s *stream) block(index int64, data []byte) error {
	if n := index / vmdkTable; n != s.open {
		if err := s.closeTable(); err != nil {
			return err
		}
		s.open = n
	}
	s.packed.Reset()
	s.packer.Reset(&s.packed)
	if _, err := s.packer.Write(data); err != nil {
		return err
	}
	if err := s.packer.Close(); err != nil {
		return err
	}
	s.table[index%vmdkTable] = uint32(s.next / sector)
	// A grain's marker is twelve bytes, and its data follows at once.
	grain := binary.LittleEndian.AppendUint64(nil, uint64(index*vmdkGrain/sector))
	grain = binary.LittleEndian.AppendUint32(grain, uint32(s.packed.Len()))
	return s.add(append(grain, s.packed.Bytes()...))
}

// add appends data, filled up to whole sectors.
func (s *stream) add(data []byte) error {
	at := s.next
	s.next += roundUp(int64(len(data)), sector)
	return s.put(append(data, make([]byte, s.next-at-int64(len(data)))...), at)
}

// mark appends a sector that says what the next ones are.
func (s *stream) mark(kind uint32, sectors int64) error {
	b := binary.LittleEndian.AppendUint64(nil, uint64(sectors))
	b = binary.LittleEndian.AppendUint32(b, 0)
	return s.add(binary.LittleEndian.AppendUint32(b, kind))
}

func (s *stream) closeTable() error {
	if s.open < 0 {
		return nil
	}
	if err := s.mark(streamTable, vmdkTable*4/sector); err != nil {
		return err
	}
	s.directory[s.open] = uint32(s.next / sector)
	err := s.add(pack(binary.LittleEndian, s.table))
	clear(s.table)
	return err
}

func (s *stream) finish(id guid.GUID) error {
	if err := s.closeTable(); err != nil {
		return err
	}
	directory := pack(binary.LittleEndian, s.directory)
	if err := s.mark(streamDirectory, roundUp(int64(len(directory)), sector)/sector); err != nil {
		return err
	}
	h := vmdkHeader{
		Version: 3, Flags: 3<<16 | 1, Capacity: uint64(s.size / sector), DescriptorSize: vmdkDescriptor,
		Directory: uint64(s.next / sector), Overhead: vmdkGrain / sector, Compression: 1,
	}
	if err := s.add(directory); err != nil {
		return err
	}
	if err := s.mark(streamFooter, 1); err != nil {
		return err
	}
	if err := s.add(h.bytes()); err != nil {
		return err
	}
	if err := s.mark(streamEnd, 0); err != nil {
		return err
	}
	text, err := vmdkText("streamOptimized", s.name, s.size, id)
	if err != nil {
		return err
	}
	h.Directory = 1<<64 - 1 // "look at the footer"
	if err := s.put(text, sector); err != nil {
		return err
	}
	return s.put(h.bytes(), 0)
}
