package node_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/internal/fuel"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobpeer"
	realnode "github.com/phasebased/phase/internal/node"
	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/internal/p2p/dhtserver"
	"github.com/phasebased/phase/internal/peer"
	"github.com/phasebased/phase/internal/store"
	"github.com/phasebased/phase/internal/strictjson"
	"github.com/phasebased/phase/internal/wasm"
	"github.com/phasebased/phase/manifest"
	"github.com/phasebased/phase/quorum"
)

// badCommand is how this program calls itself to be a node that cheats.
const badCommand = "bad-node"

// The ways of a node that cheats.
const (
	lies   = "lies"   // it runs the job, and signs for another output
	copies = "copies" // it commits itself to what another has committed itself to
	stalls = "stalls" // it commits itself, and never shows what to
)

// badNode is made of the packages that plasmd is made of.
type badNode struct {
	*realnode.Desk
	how, leak string // leak is a file with another's commitment, once there is one
	key       ed25519.PrivateKey
}

// liar is a sandbox whose outputs are not those of its guests.
type liar struct{ box *wasm.Sandbox }

// Run tells something else than what it saw.
func (l liar) Run(ctx context.Context, j *job.Job, module []byte) (job.Result, error) {
	res, err := l.box.Run(ctx, j, module)
	res.Stdout = []byte("a lie\n")
	return res, err
}

// Commitment is the node's own, or one with another's hash.
func (b *badNode) Commitment(id blob.Digest, by job.Caller) ([]byte, error) {
	raw, err := b.Desk.Commitment(id, by)
	if b.how != copies || err != nil {
		return raw, err
	}
	for {
		if other, err := os.ReadFile(b.leak); err == nil {
			return b.copy(raw, other)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// copy puts another's hash into a commitment.
func (b *badNode) copy(own, other []byte) ([]byte, error) {
	var mine, theirs struct{ Payload []byte }
	var document, from map[string]any
	err := errors.Join(json.Unmarshal(own, &mine), json.Unmarshal(other, &theirs))
	if err == nil {
		err = errors.Join(json.Unmarshal(mine.Payload, &document), json.Unmarshal(theirs.Payload, &from))
	}
	if err != nil {
		return nil, err
	}
	document["hash"], document["version"] = from["hash"], int64(quorum.Version)
	payload, err := strictjson.MarshalCanonical(document)
	if err != nil {
		return nil, err
	}
	return dsse.Envelope{
		PayloadType: quorum.CommitmentType, Payload: payload,
		Signatures: []dsse.Signature{dsse.Sign(quorum.CommitmentType, payload, b.key)},
	}.Marshal()
}

// Reveal shows what the node committed itself to, if it can and wants.
func (b *badNode) Reveal(id blob.Digest, set []byte, by job.Caller) (receipt, opening []byte, err error) {
	switch b.how {
	case stalls:
		select {}
	case copies:
		return nil, nil, &job.Refusal{Reason: job.Internal, Detail: "it has nothing to show"}
	}
	return b.Desk.Reveal(id, set, by)
}

// beBad is a node that cheats, until it is killed: how, its folder, the address to
// listen on, whose jobs it runs.
func beBad(args []string) error {
	how, dir, listen := args[0], args[1], args[2]
	owner, err := job.ParseKey(args[3])
	if err != nil {
		return err
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	empty := filepath.Join(dir, "empty")
	if err := os.Mkdir(empty, 0o555); err != nil {
		return err
	}
	blobs, err := store.Open(dir)
	if err != nil {
		return err
	}
	box := &wasm.Sandbox{Exe: programs.plasmd, Args: []string{"job-runner"}, EmptyDir: empty}
	if box.Exe == "" {
		box.Exe = filepath.Join(os.Getenv(builtVar), "plasmd")
	}
	var runner realnode.Runner = box
	if how == lies {
		runner = liar{box}
	}
	b := &badNode{how: how, leak: filepath.Join(filepath.Dir(dir), "leak"), key: key}
	n, err := realnode.New(realnode.Config{
		Key: key, Runner: runner, Module: (&realnode.Modules{Stores: []*store.Store{blobs}, MaxBytes: job.MaxModuleBytes}).Get,
		Limits: job.DefaultNodeLimits, MaxConcurrent: 1, MaxQueued: 8,
	})
	if err != nil {
		return err
	}
	if b.Desk, err = realnode.NewDesk(realnode.DeskConfig{Node: n, Submitters: []ed25519.PublicKey{owner}}); err != nil {
		return err
	}
	return b.serve(listen, owner, blobs)
}

// serve answers other nodes as plasmd does.
func (b *badNode) serve(listen string, owner ed25519.PublicKey, blobs *store.Store) error {
	arch, err := manifest.ParseArch(runtime.GOARCH)
	if err != nil {
		return err
	}
	most := job.DefaultNodeLimits
	server, err := jobpeer.New(jobpeer.Config{
		Key: b.key, Desk: b, Rounds: b, Blobs: blobs, Submitters: []ed25519.PublicKey{owner}, MaxModuleBytes: most.ModuleBytes,
		Describe: func() jobpeer.Capacity {
			return jobpeer.Capacity{
				Version: "1", Arch: arch, Engine: "honest", CostTable: fuel.CostTable, MaxRunning: 1, MaxWaiting: 8,
				MemoryBytes: most.MemoryBytes, DeadlineMS: most.DeadlineMS, StdoutBytes: most.StdoutBytes,
				StderrBytes: most.StderrBytes, Fuel: most.Fuel, ModuleBytes: most.ModuleBytes,
			}
		},
	})
	if err != nil {
		return err
	}
	n, err := p2p.New(p2p.Config{Key: b.key, Listen: []string{listen}, Server: dhtserver.New})
	if err != nil {
		return err
	}
	if err := errors.Join(n.Handle(jobpeer.JobProtocol, server.ServeJob), n.Handle(jobpeer.BlobProtocol, server.ServeBlob)); err != nil {
		return err
	}
	go func() { _ = n.Run(context.Background()) }()
	told, err := json.Marshal(peer.Peer{ID: n.ID(), Key: publicOf(b.key), Addrs: n.Addrs()})
	if err != nil {
		return err
	}
	fmt.Println(readyLine + string(told))
	return b.Desk.Run(context.Background())
}

// readyLine is how a node that cheats tells how it is called.
const readyLine = "ready "
