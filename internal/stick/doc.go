// Package stick writes images onto sticks so that what is said afterwards is true:
// either the medium holds every byte of the image, read back from itself, or it
// holds nothing that a machine would start.
//
// The order is the whole idea:
//
//  1. What makes a medium a medium goes first: the first and the last MiB (MBR and
//     both copies of the GPT) and the beginnings of all partitions, old and new, are
//     overwritten with zeros, flushed, and read back as zeros.
//  2. Marks that depend on their place are written all over the medium and read
//     back: a stick that claims more than it has loses some of them, or finds them
//     in the wrong place.
//  3. The image follows, without those parts. Progress is what the medium has
//     confirmed, never what the kernel has only taken over.
//  4. All of it is read from the medium, past every cache, and compared with the
//     image; the far marks must have survived.
//  5. Only then come the beginnings of the partitions, the GPT's second copy at the
//     medium's real end, its first copy, and the MBR: last, flushed one by one, and
//     read back in turn.
//
// So an interruption at any time, by whatever, leaves a medium without a partition
// table, until everything else is known to be right.
//
// Nothing in the image's extent is skipped. Where the image has zeros, the medium is
// told to make zeros if it can do that by itself, or is read and written only where
// it differs; the rest of the old content would otherwise show up in the free room
// of file systems, and a medium could not be compared with its image by digest.
//
// Limits: a stick with a cache of its own answers reads from it, and nobody outside
// can empty that. The marks for the capacity are a few MiB, so a forged stick whose
// cache holds more than that passes step 2; step 4 reads the image after far more was
// written than such caches hold, and finds it if the image reaches beyond what the
// stick really has.
//
// Trust: the image is looked at (a complete GPT, a boot partition of ours), not
// verified; its publisher's checksums are for that. The kernel and [disks] are
// believed about which disk is which. A medium is believed in nothing.
package stick
