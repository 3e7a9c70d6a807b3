package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/phasebased/phase/internal/dispatch"
	"github.com/phasebased/phase/internal/jobpeer"
	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/internal/peer"
)

const (
	quorumNodes   = 3
	quorumSamples = 31
)

// quorumFigures measures a job that three nodes on loopback run and agree on, in new
// jails: from asking the nodes what they can to the signed statement. The reference is
// the same job given to one of them.
func quorumFigures(ctx context.Context) ([]Figure, error) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	module, err := os.ReadFile(filepath.Join("examples", "hello", "hello.wasm"))
	if err != nil {
		return nil, err
	}
	asker, err := p2p.New(p2p.Config{Key: ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, ed25519.SeedSize))})
	if err != nil {
		return nil, err
	}
	defer asker.Close()
	submitter := key.Public().(ed25519.PublicKey)
	client := &jobpeer.Client{Open: asker.Open, Submitter: submitter}
	var nodes []*realNode
	var peers []peer.Peer
	for range quorumNodes {
		n, startErr := startNode(ctx, submitter, 1)
		if err = startErr; err != nil {
			break
		}
		nodes, peers = append(nodes, n), append(peers, n.peer)
	}
	var one, three float64
	if err == nil {
		one, err = agreed(ctx, client, key, module, peers, 1)
	}
	if err == nil {
		three, err = agreed(ctx, client, key, module, peers, quorumNodes)
	}
	for _, n := range nodes {
		err = errors.Join(err, n.stop())
	}
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("hello job agreed on by %d nodes on loopback (reference: run by one)", quorumNodes)
	return []Figure{{name, three, "ms", one, three / one, ""}}, nil
}

// agreed gives the median time to an answer of so many nodes, in milliseconds.
func agreed(ctx context.Context, client *jobpeer.Client, key ed25519.PrivateKey, module []byte, peers []peer.Peer, replicas int) (float64, error) {
	var took []float64
	maker := &carrier{module: module}
	for i := range quorumSamples + 2 {
		time.Sleep(nodeRest)
		j, err := maker.hello()
		if err != nil {
			return 0, err
		}
		began := time.Now()
		answer, err := dispatch.Run(ctx, client, dispatch.Job{Job: j, Module: module, Key: key},
			dispatch.Options{Nodes: peers, Replicas: replicas, Quorum: replicas/2 + 1, MaxNodes: len(peers)})
		if err != nil {
			return 0, err
		}
		if string(answer.Stdout) != helloAnswer || replicas > 1 && (answer.Quorum == nil || answer.Agreed != replicas) {
			return 0, fmt.Errorf("%d nodes agreed on %q", answer.Agreed, answer.Stdout)
		}
		if i >= 2 { // the first ones carry the module
			took = append(took, milliseconds(time.Since(began)))
		}
	}
	return middle(took), nil
}
