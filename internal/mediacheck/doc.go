// Package mediacheck looks at a boot medium as a stranger got it: an image file, or
// a stick. It says whether the partition tables, the file system that firmware
// reads, and the partition with the medium's own papers are whole and fit
// together, and which root of trust and which version they name.
//
// Whether a publisher made the medium is another question, which only a signed
// list of digests answers (package sums): whoever can change the medium can make
// its papers fit as well. So a Report without a digest that was compared proves
// no more than that nothing was damaged on the way.
//
// Everything that is read is foreign. The readers here are small and read only
// what our builder writes: GPT with tables of 128 entries, FAT32, squashfs with
// metadata that are stored or packed by zstd. They share no code with package
// image, which writes media: a mistake there should not hide itself here. Sizes,
// counts, depths and chains are bounded before memory is taken or a loop begins,
// and each has a fuzz target.
package mediacheck
