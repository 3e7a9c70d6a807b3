package manifest

import (
	"encoding/hex"
	"fmt"

	"github.com/phasebased/phase/blob"
)

// VerityBlock is the size of a data block and of a hash block, in bytes.
const VerityBlock = 4096

// MaxVeritySalt is the longest salt, in bytes.
const MaxVeritySalt = 32

// Verity says that a root file system carries its hash tree, so that a kernel can
// check each block when it is used (Linux: dm-verity): the artifact is the file
// system, filled up to whole blocks, and then the tree, and nothing else. The tree
// is of hash type 1 with SHA-256 and has no superblock; its levels lie in it from
// the top one down.
//
// It also says that the release's initramfs can open the file where it lies in a
// cache. The artifact's Hash covers the whole of it all the same.
type Verity struct {
	Root     blob.Digest // of the topmost block of the tree; of the data, if that is a single block
	Salt     []byte      // hashed before each block; at most MaxVeritySalt bytes, may be empty
	DataSize int64       // bytes before the tree, a multiple of VerityBlock
}

// VerityTreeSize is the size in bytes of the hash tree over so many bytes of data,
// a positive multiple of VerityBlock. It is 0 for a single block.
func VerityTreeSize(dataSize int64) int64 {
	const perBlock = VerityBlock / 32
	var tree int64
	for blocks := dataSize / VerityBlock; blocks > 1; {
		blocks = (blocks + perBlock - 1) / perBlock
		tree += blocks
	}
	return tree * VerityBlock
}

func (v Verity) check(size int64) error {
	switch {
	case v.Root.IsZero():
		return fmt.Errorf("its hash tree has no root")
	case len(v.Salt) > MaxVeritySalt:
		return fmt.Errorf("its hash tree has a salt of %d bytes, at most %d are allowed", len(v.Salt), MaxVeritySalt)
	case v.DataSize < VerityBlock || v.DataSize%VerityBlock != 0:
		return fmt.Errorf("data_size of its hash tree is %d, not a positive multiple of %d", v.DataSize, VerityBlock)
	case v.DataSize > size || v.DataSize+VerityTreeSize(v.DataSize) != size: // in this order nothing overflows
		return fmt.Errorf("it has %d bytes, not the data_size of its hash tree, %d, and that of the tree", size, v.DataSize)
	}
	return nil
}

// wireSalt is bytes written as lower-case hexadecimal digits.
type wireSalt []byte

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *wireSalt) UnmarshalText(text []byte) error {
	if len(text) > 2*MaxVeritySalt {
		return fmt.Errorf("salt of %d characters, at most %d are allowed", len(text), 2*MaxVeritySalt)
	}
	raw, err := hex.DecodeString(string(text))
	if err != nil || hex.EncodeToString(raw) != string(text) {
		return fmt.Errorf("salt %.70q is not pairs of lower-case hexadecimal digits", text)
	}
	*s = raw
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (s wireSalt) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(s)), nil }
