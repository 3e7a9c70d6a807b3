// Command kernels is work for a processor as Go programs have it: its first argument
// names the kind, the second how much of it. It writes a number that depends on all of
// the work. c/kernels.c has other kinds, in C.
package main

import (
	"compress/flate"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
)

func main() {
	kinds := map[string]func(*rand.Rand, int) uint64{"sort": sorted, "words": words, "pack": pack, "trees": trees}
	if len(os.Args) != 3 || kinds[os.Args[1]] == nil {
		os.Exit(2)
	}
	n, err := strconv.Atoi(os.Args[2])
	if err != nil {
		os.Exit(2)
	}
	fmt.Println(kinds[os.Args[1]](rand.New(rand.NewPCG(1, 2)), n))
}

// sorted sorts n strings.
func sorted(r *rand.Rand, n int) (sum uint64) {
	list := make([]string, n)
	for i := range list {
		list[i] = strconv.FormatUint(uint64(r.Uint32()), 36)
	}
	slices.Sort(list)
	for _, s := range list {
		sum = sum*31 + uint64(s[0])
	}
	return sum
}

// words counts n words in a map.
func words(r *rand.Rand, n int) (sum uint64) {
	count := map[string]int{}
	for range n {
		count["word "+strconv.Itoa(r.IntN(5000))]++
	}
	for word, times := range count {
		sum += uint64(len(word)) * uint64(times) * uint64(times)
	}
	return sum
}

// pack compresses n bytes of text.
func pack(r *rand.Rand, n int) uint64 {
	var text, packed strings.Builder
	for text.Len() < n {
		fmt.Fprintf(&text, "line %d says %d\n", text.Len(), r.IntN(1000))
	}
	w, err := flate.NewWriter(&packed, flate.DefaultCompression)
	if err != nil {
		os.Exit(1)
	}
	if _, err := w.Write([]byte(text.String())); err != nil || w.Close() != nil {
		os.Exit(1)
	}
	return uint64(crc32.ChecksumIEEE([]byte(packed.String())))
}

type tree struct{ left, right *tree }

// trees makes full trees of depth n and counts their nodes, as work for the collector.
func trees(_ *rand.Rand, n int) (sum uint64) {
	var grow func(depth int) *tree
	grow = func(depth int) *tree {
		if depth == 0 {
			return &tree{}
		}
		return &tree{grow(depth - 1), grow(depth - 1)}
	}
	for range 4 {
		sum += grow(n).count()
	}
	return sum
}

func (t *tree) count() uint64 {
	if t == nil {
		return 0
	}
	return 1 + t.left.count() + t.right.count()
}
