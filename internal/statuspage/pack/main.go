// Command pack compresses a file for package statuspage to embed, to the same bytes
// everywhere: gzip as Go has it, without names and times.
//
//	go run ./internal/statuspage/pack FROM TO
package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"log"
	"os"

	"github.com/phasebased/phase/internal/durable"
)

func main() {
	log.SetFlags(0)
	if err := pack(os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func pack(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: pack FROM TO")
	}
	raw, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := z.Write(raw); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	if old, err := os.ReadFile(args[1]); err == nil && bytes.Equal(old, packed.Bytes()) {
		return nil // what depends on it need not be built again
	}
	return durable.WriteFile(args[1], packed.Bytes(), 0o644)
}
