package main

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"
	"unicode"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/dispatch"
	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/peer"
	"github.com/phasebased/phase/internal/strictjson"
	"github.com/phasebased/phase/quorum"
)

// knownNodes is a person's own list of nodes: their keys, who runs them as far as the
// person knows, and where they are. The empty list knows nobody.
type knownNodes []knownNode

type knownNode struct {
	key      ed25519.PublicKey
	operator string
	addrs    []string
}

const (
	maxKnownFile  = 256 << 10
	maxKnownAddrs = 8
)

type wireKnown struct {
	Nodes []struct {
		Key      string   `json:"key"`
		Operator string   `json:"operator"`
		Addrs    []string `json:"addrs"`
	} `json:"nodes"`
}

// readKnown reads the file of --nodes; no path is no list.
func readKnown(path string) (knownNodes, error) {
	if path == "" {
		return nil, nil
	}
	list, err := parseKnown(path)
	if err != nil {
		return nil, usageError{fmt.Errorf("--nodes %s: %w", path, err)}
	}
	return list, nil
}

func parseKnown(path string) (list knownNodes, err error) {
	raw, err := durable.ReadSmall(path, maxKnownFile, durable.FollowLinks)
	if err != nil {
		return nil, err
	}
	var w wireKnown
	if err := strictjson.Unmarshal(raw, &w, strictjson.Limits{Bytes: maxKnownFile, Depth: 6, RejectUnknown: true, RejectNull: true}); err != nil {
		return nil, err
	}
	if len(w.Nodes) < 1 || len(w.Nodes) > quorum.MaxCandidates {
		return nil, fmt.Errorf("%d nodes, want 1 to %d", len(w.Nodes), quorum.MaxCandidates)
	}
	seen := map[string]bool{}
	for _, n := range w.Nodes {
		key, err := job.ParseKey(n.Key)
		switch {
		case err != nil:
			return nil, err
		case seen[n.Key]:
			return nil, fmt.Errorf("node %s stands there twice", n.Key)
		case len(n.Operator) > quorum.MaxOperatorBytes || strings.ContainsFunc(n.Operator, func(r rune) bool { return !unicode.IsPrint(r) }):
			return nil, fmt.Errorf("the operator of %s is not at most %d bytes of text", n.Key, quorum.MaxOperatorBytes)
		case len(n.Addrs) > maxKnownAddrs:
			return nil, fmt.Errorf("node %s has more than %d addresses", n.Key, maxKnownAddrs)
		}
		seen[n.Key] = true
		list = append(list, knownNode{key, n.Operator, n.Addrs})
	}
	return list, nil
}

// operator is who runs the node with a key, "" if nobody knows.
func (l knownNodes) operator(key ed25519.PublicKey) string {
	for _, n := range l {
		if n.key.Equal(key) {
			return n.operator
		}
	}
	return ""
}

// voters are the nodes as a verifier of quorums names them, with those of others that
// are not on the list.
func (l knownNodes) voters(others []quorum.Node) (out []quorum.Node) {
	listed := map[string]bool{}
	for _, n := range l {
		listed[string(n.key)] = true
		out = append(out, quorum.Node{Key: n.key, Operator: n.operator})
	}
	for _, n := range others {
		if !listed[string(n.Key)] {
			out = append(out, n)
		}
	}
	return out
}

// with are the keys of the list, and those that --on names or that are there already.
func (l knownNodes) with(p *places, there []peer.Peer) func(ed25519.PublicKey) bool {
	known := map[string]bool{}
	for _, n := range l {
		known[string(n.key)] = true
	}
	for _, n := range there {
		known[string(n.Key)] = true
	}
	return func(key ed25519.PublicKey) bool { return known[string(key)] || p.wanted[job.FormatKey(key)] }
}

// ofStrangers tells a person that an answer rests on the words of nodes that they did
// not name; "" if it does not. A receipt proves that somebody said something.
func ofStrangers(a *dispatch.Answer, known func(ed25519.PublicKey) bool) string {
	const advice = "nothing shows who runs it, or that it told the truth; --on KEY or --nodes FILE names nodes that you know"
	if a.Quorum == nil {
		if known(a.Statement.Observation.NodeKey) {
			return ""
		}
		return fmt.Sprintf("note: a stranger ran the job, %s: %s", job.FormatKey(a.Statement.Observation.NodeKey), advice)
	}
	agreed, strange := 0, 0
	for _, n := range a.Attempts {
		key, err := job.ParseKey(n.Node)
		if err != nil || n.Outcome != dispatch.Outcome(quorum.Agreed) {
			continue
		}
		if agreed++; !known(key) {
			strange++
		}
	}
	if strange == 0 {
		return ""
	}
	return fmt.Sprintf("note: %d of the %d nodes that agree are strangers, and may all be one: --on KEY or --nodes FILE names nodes that you know", strange, agreed)
}

// narrow leaves of the network those who are known: with an address they are asked
// there, else looked for.
func (l knownNodes) narrow(p *places) {
	if len(l) == 0 || !p.network {
		return
	}
	p.network = false
	for _, n := range l {
		if len(n.addrs) > 0 {
			p.nodes = append(p.nodes, peer.Peer{Key: n.key, Addrs: n.addrs})
		} else {
			p.wanted[job.FormatKey(n.key)] = true
		}
	}
}

// maxBeaconFile bounds a file of public randomness in bytes.
const maxBeaconFile = 1 << 20

// readBeacon reads the value of --beacon: hexadecimal digits, or with an @ before it a
// file, whose SHA-256 it then is. Nothing gives nil: randomness of one's own.
func readBeacon(text string) ([]byte, error) {
	path, file := strings.CutPrefix(text, "@")
	switch {
	case text == "":
		return nil, nil
	case file:
		raw, err := durable.ReadSmall(path, maxBeaconFile, durable.FollowLinks)
		if err != nil {
			return nil, fmt.Errorf("--beacon: %w", err)
		}
		return hex.DecodeString(blob.Of(raw).Hex())
	}
	beacon, err := hex.DecodeString(text)
	if err != nil || len(beacon) < minBeacon || len(beacon) > quorum.MaxBeaconBytes {
		return nil, usageError{fmt.Errorf("--beacon: want %d to %d bytes in hexadecimal digits, or @FILE", minBeacon, quorum.MaxBeaconBytes)}
	}
	return beacon, nil
}

// minBeacon is the shortest beacon that nobody guesses, in bytes.
const minBeacon = 16

// keepFrauds writes proofs of fraud into the folder dir, or without one beside the
// file of the statement, and tells where they are. Without either it says that
// there are some.
func keepFrauds(list []dispatch.Fraud, dir, beside string) (told []string, err error) {
	for _, f := range list {
		_, digits, _ := strings.Cut(f.Node, ":")
		name := fmt.Sprintf("fraud-%.16s-%s-%.8s.json", digits, f.Kind, blob.Of(f.Proof).Hex())
		var path string
		switch {
		case dir != "":
			path = filepath.Join(dir, name)
		case beside != "":
			path = beside + "." + name
		default:
			told = append(told, fmt.Sprintf("%s has signed what contradicts itself (%s); --fraud-dir or --receipt keeps the proof", f.Node, f.Kind))
			continue
		}
		if err := durable.WriteFile(path, f.Proof, 0o644); err != nil {
			return told, fmt.Errorf("proof of fraud: %w", err)
		}
		told = append(told, fmt.Sprintf("%s has signed what contradicts itself (%s); the proof is in %s", f.Node, f.Kind, path))
	}
	return told, nil
}
