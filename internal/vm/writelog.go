package vm

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A Write is one request that reached a disk with Disk.WriteLog, in the order
// in which they were completed. It puts Data at Offset, or it is a Flush: what
// came before it is on the medium, and what comes after it may be there wholly,
// in parts, in any order, or not at all when the power fails.
type Write struct {
	Offset  int64 // bytes from the disk's start
	Data    []byte
	Discard int64 // bytes at Offset that the guest no longer needs; no Data
	Flush   bool  // nothing else is set
}

// The form of a log, from the kernel's Documentation/admin-guide/
// device-mapper/log-writes.rst and QEMU's block/blklogwrites.c: little-endian,
// one sector for the head, then one sector for each entry, followed by its data.
const (
	logMagic   = 0x6a736677736872
	logVersion = 1
	logSector  = 512

	logFlush   = 1
	logFUA     = 2
	logDiscard = 4

	maxLogWrite = 64 << 20 // bytes of one request
)

// MaxWriteLog bounds the requests and the bytes that ReadWriteLog takes in.
const MaxWriteLog = 256 << 20

// ReadWriteLog reads the log that a machine with Disk.WriteLog has left. The
// machine must have ended: QEMU counts the entries last.
func ReadWriteLog(r io.Reader) ([]Write, error) {
	in := bufio.NewReaderSize(io.LimitReader(r, MaxWriteLog), 1<<20)
	head := make([]byte, logSector)
	if _, err := io.ReadFull(in, head); err != nil {
		return nil, fmt.Errorf("read the head of the write log: %w", err)
	}
	le := binary.LittleEndian
	entries := le.Uint64(head[16:])
	switch {
	case le.Uint64(head) != logMagic || le.Uint64(head[8:]) != logVersion:
		return nil, errors.New("this is no write log")
	case le.Uint32(head[24:]) != logSector:
		return nil, fmt.Errorf("the write log has sectors of %d bytes, not %d", le.Uint32(head[24:]), logSector)
	case entries > MaxWriteLog/logSector:
		return nil, fmt.Errorf("the write log claims %d entries", entries)
	}
	var writes []Write
	for i := range entries {
		entry, err := readLogEntry(in)
		if err != nil {
			return nil, fmt.Errorf("write log, entry %d of %d: %w", i, entries, err)
		}
		writes = append(writes, entry...)
	}
	return writes, nil
}

// readLogEntry reads one entry. A write may ask for a flush before it and, by
// forced unit access, for one of itself: each becomes a Write of its own.
func readLogEntry(in io.Reader) ([]Write, error) {
	head := make([]byte, logSector)
	if _, err := io.ReadFull(in, head); err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	sector, sectors, flags := le.Uint64(head), le.Uint64(head[8:]), le.Uint64(head[16:])
	if sector > 1<<50 || sectors > 1<<40 {
		return nil, fmt.Errorf("%d sectors at %d are on no disk", sectors, sector)
	}
	var writes []Write
	if flags&logFlush != 0 {
		writes = append(writes, Write{Flush: true})
	}
	offset, size := int64(sector)*logSector, int64(sectors)*logSector
	switch {
	case flags&logDiscard != 0:
		return append(writes, Write{Offset: offset, Discard: size}), nil
	case size > maxLogWrite:
		return nil, fmt.Errorf("a request of %d bytes", size)
	case size == 0:
		return writes, nil
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(in, data); err != nil {
		return nil, err
	}
	writes = append(writes, Write{Offset: offset, Data: data})
	if flags&logFUA != 0 {
		writes = append(writes, Write{Flush: true})
	}
	return writes, nil
}
