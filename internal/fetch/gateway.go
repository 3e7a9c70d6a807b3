package fetch

import (
	"context"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/phasebased/phase/blob"
)

// NewGateway is the Source of what a trustless IPFS gateway with this base URL
// knows (https://specs.ipfs.tech/http-gateways/trustless-gateway/). Each chunk is
// a block of its own, since the digest of at most 1 MiB is also its address
// there; so only parts with a chunk list, and blobs of one chunk, can be had.
func NewGateway(client *http.Client, base string) Source {
	return &gateway{client, strings.TrimRight(base, "/")}
}

type gateway struct {
	client *http.Client
	base   string
}

func (g *gateway) String() string { return g.base + "/ipfs/" }

// Read implements Source, with one request for each chunk.
func (g *gateway) Read(ctx context.Context, p Part, w io.Writer) error {
	chunks := p.Chunks
	if chunks == nil && p.Whole() && p.Size <= blob.ChunkSize {
		chunks = []blob.Digest{p.Blob}
	}
	if chunks == nil && p.Size > 0 {
		return fmt.Errorf("%w: a gateway is asked for chunks, and there is no list of them", ErrAbsent)
	}
	ctx, way := withRoute(ctx)
	for left := p.Length; len(chunks) > 0; chunks = chunks[1:] {
		size := min(blob.ChunkSize, left)
		if err := g.block(ctx, chunks[0], size, w); err != nil {
			return way.tell(err)
		}
		left -= size
	}
	return nil
}

// block asks for one block and nothing else: no proofs, no folders.
func (g *gateway) block(ctx context.Context, d blob.Digest, size int64, w io.Writer) error {
	header := http.Header{"Accept": {"application/vnd.ipld.raw"}}
	resp, err := request(ctx, g.client, g.base+"/ipfs/"+CID(d)+"?format=raw", header)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusGatewayTimeout { // nobody whom it knows has it
		return fmt.Errorf("%w: %w", ErrAbsent, &StatusError{Code: resp.StatusCode})
	}
	if err := checkHead(resp, http.StatusOK); err != nil {
		return err
	}
	if resp.ContentLength != size && isWebPage(resp.Header) {
		return ErrWebPage
	}
	part := Part{Blob: d, Size: size, Length: size}
	if n := resp.ContentLength; n >= 0 && n != size {
		return &blob.MismatchError{Want: d, WantSize: size, GotSize: n}
	}
	if err := copyPart(ctx, w, resp.Body, part); err != nil {
		return err
	}
	return atEnd(resp.Body, part)
}

// cidBase is the multibase "b": base32 in lower case without padding.
var cidBase = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// CID is the address that the bytes with digest d have in IPFS when they are one
// block: version 1, codec raw (0x55), multihash sha2-256 (0x12) of 32 bytes
// (https://github.com/multiformats/cid).
func CID(d blob.Digest) string {
	sum, _ := hex.DecodeString(d.Hex())
	return "b" + cidBase.EncodeToString(append([]byte{0x01, 0x55, 0x12, 0x20}, sum...))
}
