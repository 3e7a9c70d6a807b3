// Gateway serves the blocks of IPFS that files are made of, as kubo's trustless
// gateway does: by the same handler.
//
//	gateway DIR
//
// Every regular file below DIR is cut into blocks of 1 MiB, each under its CIDv1 of
// codec raw and hash sha2-256. It listens on loopback, and prints its URL. It knows
// nobody: a block that it does not have, it does not look for.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/exchange/offline"
	"github.com/ipfs/boxo/gateway"
	blocks "github.com/ipfs/go-block-format"
	"github.com/ipfs/go-cid"
	"github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
	"github.com/multiformats/go-multihash"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: gateway DIR")
	}
	log.Fatal(run(os.Args[1]))
}

func run(dir string) error {
	store := blockstore.NewBlockstore(dssync.MutexWrap(datastore.NewMapDatastore()))
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		return add(store, path)
	})
	if err != nil {
		return err
	}
	backend, err := gateway.NewBlocksBackend(blockservice.New(store, offline.Exchange(store)))
	if err != nil {
		return err
	}
	// Trustless answers only, as gateways for strangers are set up.
	handler := gateway.NewHandler(gateway.Config{DeserializedResponses: false, NoDNSLink: true}, backend)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("http://%s\n", l.Addr())
	return http.Serve(l, gateway.NewHeaders(nil).ApplyCors().Wrap(handler))
}

// add cuts a file into blocks.
func add(store blockstore.Blockstore, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		buf := make([]byte, 1<<20)
		n, err := io.ReadFull(f, buf)
		if n > 0 {
			if err := put(store, buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func put(store blockstore.Blockstore, data []byte) error {
	c, err := cid.V1Builder{Codec: cid.Raw, MhType: multihash.SHA2_256}.Sum(data)
	if err != nil {
		return err
	}
	b, err := blocks.NewBlockWithCid(data, c)
	if err != nil {
		return err
	}
	return store.Put(context.Background(), b)
}
