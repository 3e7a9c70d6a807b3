// Command checksum hashes its standard input with SHA-256, piece by piece, and
// writes the digest as sha256sum does. With a number it hashes the digest again that
// often, which is slow on purpose. ../c/checksum.c says the same in C and writes the
// same bytes.
//
//	GOOS=wasip1 GOARCH=wasm go build -o checksum.wasm ./examples/checksum
package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"strconv"
)

// maxRounds bounds how often the digest is hashed again.
const maxRounds = 1_000_000_000

func main() {
	rounds, ok := 0, len(os.Args) <= 2
	if len(os.Args) == 2 {
		rounds, ok = number(os.Args[1])
	}
	if !ok {
		fmt.Fprintln(os.Stderr, "usage: checksum [ROUNDS] < INPUT")
		os.Exit(2)
	}
	h := sha256.New()
	if _, err := io.CopyBuffer(h, onlyReader{os.Stdin}, make([]byte, 64<<10)); err != nil {
		fmt.Fprintln(os.Stderr, "checksum: the input cannot be read")
		os.Exit(1)
	}
	digest := [sha256.Size]byte(h.Sum(nil))
	for range rounds {
		digest = sha256.Sum256(digest[:])
	}
	fmt.Printf("%x  -\n", digest)
}

// onlyReader hides what a file can do beside reading, so that the buffer is used.
type onlyReader struct{ io.Reader }

// number reads decimal digits and nothing else.
func number(s string) (int, bool) {
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	n, err := strconv.Atoi(s)
	return n, err == nil && n <= maxRounds
}
