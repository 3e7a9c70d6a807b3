package diskformat

import (
	"bytes"
	"encoding/binary"

	"github.com/phasebased/phase/internal/guid"
)

// QCOW2 version 3 (QEMU, docs/interop/qcow2.txt): clusters of 64 KiB. Data and
// second-level tables follow the header as they come; the first-level table and
// the reference counts, which are all one, end the file.
const (
	qcowBits       = 16
	qcowCluster    = 1 << qcowBits
	qcowL2         = qcowCluster / 8 // entries of a second-level table
	qcowRefs       = qcowCluster / 2 // 16-bit counts in a cluster
	qcowCopied     = 1 << 63         // in tables: the reference count is exactly one
	qcowHeaderSize = 104
)

type qcow2 struct {
	*sink
	size int64
	l1   []uint64
	l2   []uint64
	open int64 // the first-level entry that l2 belongs to; -1: none
	next int64 // where the next cluster goes
}

func newQCOW2(out *sink, size int64) *qcow2 {
	return &qcow2{
		sink: out, size: roundUp(size, 512), open: -1, next: qcowCluster,
		l1: make([]uint64, roundUp(size, qcowL2*qcowCluster)/(qcowL2*qcowCluster)), l2: make([]uint64, qcowL2),
	}
}

func (q *qcow2) blockSize() int64 { return qcowCluster }

func (q *qcow2) block(index int64, data []byte) error {
	if table := index / qcowL2; table != q.open {
		if err := q.closeTable(); err != nil {
			return err
		}
		q.open = table
	}
	at, err := q.add(data)
	q.l2[index%qcowL2] = uint64(at) | qcowCopied
	return err
}

// add appends data as whole clusters and returns where they begin.
func (q *qcow2) add(data []byte) (int64, error) {
	at := q.next
	q.next += roundUp(int64(len(data)), qcowCluster)
	q.grow(q.next)
	return at, q.put(data, at)
}

func (q *qcow2) closeTable() error {
	if q.open < 0 {
		return nil
	}
	at, err := q.add(bigEndian(q.l2))
	q.l1[q.open] = uint64(at) | qcowCopied
	clear(q.l2)
	return err
}

// finish needs no identifier: this format has none.
func (q *qcow2) finish(guid.GUID) error {
	if err := q.closeTable(); err != nil {
		return err
	}
	l1, err := q.add(bigEndian(q.l1))
	if err != nil {
		return err
	}
	table, clusters, err := q.references()
	if err != nil {
		return err
	}
	return q.put(q.header(l1, table, clusters), 0)
}

// references writes the counts of all clusters, their own included, and returns
// where the table of their blocks is and how many clusters it has.
func (q *qcow2) references() (table, clusters int64, err error) {
	blocks := int64(0)
	for {
		total := q.next/qcowCluster + blocks + clusters
		needBlocks := roundUp(total, qcowRefs) / qcowRefs
		needClusters := roundUp(needBlocks*8, qcowCluster) / qcowCluster
		if needBlocks == blocks && needClusters == clusters {
			break
		}
		blocks, clusters = needBlocks, needClusters
	}
	total := q.next/qcowCluster + blocks + clusters
	list := make([]uint64, blocks)
	for i := range list {
		counts := bytes.Repeat([]byte{0, 1}, int(min(total-int64(i)*qcowRefs, qcowRefs)))
		at, err := q.add(counts)
		if err != nil {
			return 0, 0, err
		}
		list[i] = uint64(at)
	}
	table, err = q.add(bigEndian(list))
	return table, clusters, err
}

func (q *qcow2) header(l1, references, clusters int64) []byte {
	return pack(binary.BigEndian, struct {
		Magic                        [4]byte
		Version                      uint32
		Backing                      uint64
		BackingSize, Bits            uint32
		Size                         uint64
		Encryption, L1Entries        uint32
		L1, References               uint64
		ReferenceClusters, Snapshots uint32
		SnapshotsAt                  uint64
		Incompatible, Compatible     uint64
		AutoClear                    uint64
		ReferenceOrder, HeaderSize   uint32
	}{
		Magic: [4]byte{'Q', 'F', 'I', 0xfb}, Version: 3, Bits: qcowBits, Size: uint64(q.size),
		L1Entries: uint32(len(q.l1)), L1: uint64(l1), References: uint64(references),
		ReferenceClusters: uint32(clusters), ReferenceOrder: 4, HeaderSize: qcowHeaderSize,
	})
}

func bigEndian(list []uint64) []byte { return pack(binary.BigEndian, list) }

// pack is the bytes of a value of fixed size.
func pack(order binary.ByteOrder, v any) []byte {
	var b bytes.Buffer
	_ = binary.Write(&b, order, v) // fails for types without a fixed size only
	return b.Bytes()
}
