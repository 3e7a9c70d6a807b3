// Package delta turns one release into the next with few bytes: Make describes a
// new file by pieces of an old one, Apply builds the new file from the old one
// and that description.
//
// The files are images whose contents are compressed: a small change to a
// program changes all compressed bytes behind it up to the end of its block.
// So a patch looks inside. Where the files contain zstd frames (RFC 8878), and
// compressing the contents of a frame with Codec gives exactly the frame again,
// the contents are patched and compressed anew. Everything else is patched as it
// is, so any two files are welcome; image.Squashfs writes its blocks with
// Codec's settings.
//
// A patch is not trusted and neither is what Apply writes: whoever calls it
// checks the digest of the result, exactly as after a full download. What Apply
// itself promises is that no patch, however hostile, makes it write more than
// the announced size, hold more than 16 MiB, read outside the old file, work
// without end, or panic. If another version of the compressor gives other bytes,
// the digest is wrong and the file is downloaded in full; a test holds the
// compressor to its bytes.
//
// A patch is the magic, a version byte, the sizes of both files as uvarints, and
// one zstd stream. In it are, in this order:
//
//   - the number of frames of the old file that are used, and for each of them its
//     distance from the end of the one before, its length, and the length of its
//     contents, as uvarints. An address below the size of the old file means a byte
//     of that file; above it follow the contents of these frames.
//   - batches: the lengths of three parts as uvarints, and the parts: operations,
//     differences, literals. An operation is the uvarint length<<2 | kind. A copy
//     takes bytes from an address, given as a varint relative to the end of the
//     last piece taken from the old file; an add does the same and adds to each
//     byte the next of the differences; an insert takes literals; a pack says that
//     what the next operations give, up to its length, is to be compressed.
package delta
