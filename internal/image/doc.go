// Package image writes the containers a bootable medium is made of: cpio
// archives, zstd streams, GPT disks, FAT32, squashfs and ext4 file systems.
//
// Everything is written as plain files by an ordinary user: no root, no mounts,
// no loop devices. The same [Tree], the same time and the same identifiers give
// the same bytes on any machine: entries are sorted, owners are root, every date
// is the one the caller passes in (SOURCE_DATE_EPOCH, read by the caller), and
// every GUID is derived from a name. cpio, GPT, FAT32 and zstd are written here;
// squashfs and ext4 are written by mksquashfs and mke2fs with all their sources
// of chance pinned, so their bytes also depend on the version of those tools.
//
// Trust: the package copies bytes that its caller has already chosen. It guards
// only what a container could be abused for, so it refuses names that leave the
// tree, and loaders or programs that are not of the architecture they claim.
package image
