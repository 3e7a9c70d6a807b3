package image

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/phasebased/phase/internal/guid"
)

// MinExt4 is the smallest ext4 file system in bytes that leaves room for its
// journal.
const MinExt4 = 32 << 20

// Ext4 describes an empty ext4 file system.
type Ext4 struct {
	Label  string    // at most 16 bytes
	UUID   guid.GUID // also seeds the directory hash
	Size   int64     // bytes, at least [MinExt4] and a multiple of 4096
	Offset int64     // where in the file it begins, in bytes
	Time   time.Time // of creation and of the root directory
}

// ext4Features are named one by one because the default depends on the host's
// mke2fs.conf and on the version of the tool. metadata_csum_seed, orphan_file and
// the like are left out so that older kernels can mount the cache, too.
const ext4Features = "none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg," +
	"sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum"

// Write makes the file system inside the existing file at path with mke2fs. The
// region must read as zeros and stays sparse. Tables and journal are complete
// when it returns: the first mount finds nothing left to initialise.
func (e Ext4) Write(ctx context.Context, path string) error {
	if e.Size < MinExt4 || e.Size%4096 != 0 || len(e.Label) > 16 || e.Offset < 0 {
		return fmt.Errorf("image: ext4: bad size %d, offset %d or label %q", e.Size, e.Offset, e.Label)
	}
	ext := fmt.Sprintf("hash_seed=%s,offset=%d,lazy_itable_init=0,lazy_journal_init=0,nodiscard,root_owner=0:0",
		e.UUID, e.Offset)
	env := []string{
		"E2FSPROGS_FAKE_TIME=" + strconv.FormatInt(e.Time.Unix(), 10),
		"MKE2FS_CONFIG=/dev/null",
		"MKE2FS_SKIP_PROGRESS=1",
	}
	return runTool(ctx, "e2fsprogs", nil, env, "mke2fs", "-q", "-F", "-t", "ext4",
		"-O", ext4Features, "-b", "4096", "-I", "256", "-i", "65536", "-m", "0", "-J", "size=8",
		"-L", e.Label, "-U", e.UUID.String(), "-E", ext, path, strconv.FormatInt(e.Size/4096, 10))
}
