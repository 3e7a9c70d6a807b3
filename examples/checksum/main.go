// Command checksum hashes a file, or its standard input, with SHA-256, piece by piece,
// and writes the digest as sha256sum does. The inputs of a job are files in /in. With a number it hashes the digest again that
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
	"strings"
)

// maxRounds bounds how often the digest is hashed again.
const maxRounds = 1_000_000_000

func main() {
	args, input, name := os.Args[1:], os.Stdin, "-"
	if len(args) > 0 && strings.HasPrefix(args[0], "/") {
		name, args = args[0], args[1:]
	}
	rounds, ok := 0, len(args) <= 1
	if len(args) == 1 {
		rounds, ok = number(args[0])
	}
	if !ok {
		fmt.Fprintln(os.Stderr, "usage: checksum [/in/NAME] [ROUNDS]")
		os.Exit(2)
	}
	var err error
	if name != "-" {
		input, err = os.Open(name)
	}
	h := sha256.New()
	if err == nil {
		_, err = io.CopyBuffer(h, onlyReader{input}, make([]byte, 64<<10))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "checksum: the input cannot be read")
		os.Exit(1)
	}
	digest := [sha256.Size]byte(h.Sum(nil))
	for range rounds {
		digest = sha256.Sum256(digest[:])
	}
	fmt.Printf("%x  %s\n", digest, name)
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
