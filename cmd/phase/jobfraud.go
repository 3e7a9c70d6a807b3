package main

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"regexp"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/strictjson"
	"github.com/phasebased/phase/quorum"
)

func newJobFraud() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "fraud FILE FILE", Short: "Make the proof of fraud from two documents of one key that contradict each other", Args: someArgs(2, 2, "two files"),
		Long: `Takes two receipts of a node for one job, a node's commitment and its opening, or two
sets of a submitter for one wave of a quorum. If one key has signed both, and no honest
holder of it can have, the proof is written to standard output or to the file of --output;
phase job verify checks it, and needs nothing else.

Exit status: 0 there is a proof, 1 the documents prove nothing, 2 wrong usage.`,
		Example: "  phase job fraud monday.json tuesday.json --output fraud.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			var files [2][]byte
			for i, path := range args {
				raw, err := readProof(cmd.InOrStdin(), path)
				if err != nil {
					return err
				}
				files[i] = bytes.TrimSuffix(raw, []byte("\n"))
			}
			proof, err := findFraud(files[0], files[1])
			if err != nil {
				return err
			}
			if out != "" {
				return durable.WriteFile(out, proof, 0o644)
			}
			_, err = cmd.OutOrStdout().Write(append(proof, '\n'))
			return err
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "write the proof to this `file`")
	return cmd
}

// findFraud makes the proof that two documents are of any kind, in any order.
func findFraud(a, b []byte) ([]byte, error) {
	keys := keysIn(a)
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w: the first file is no document of a node or submitter", quorum.ErrMalformed)
	}
	err := error(quorum.ErrNoFraud)
	for _, key := range keys {
		for _, kind := range []quorum.Kind{quorum.TwoResults, quorum.WrongOpening, quorum.TwoSets} {
			for _, pair := range [][2][]byte{{a, b}, {b, a}} {
				proof, failed := quorum.ProveFraud(kind, key, pair[0], pair[1])
				if failed == nil {
					return proof, nil
				}
				if errors.Is(failed, quorum.ErrNoFraud) { // the others are not of this kind
					err = failed
				}
			}
		}
	}
	return nil, err
}

// maxKeys bounds the keys in a document that are tried.
const maxKeys = 64

var keyText = regexp.MustCompile(`"ed25519:[0-9a-f]{64}"`)

// keysIn are the keys that a document names. Who has signed it is among them; the
// signature tells who.
func keysIn(raw []byte) (keys []ed25519.PublicKey) {
	var envelope struct {
		Payload strictjson.Base64 `json:"payload"`
	}
	if strictjson.Unmarshal(raw, &envelope, strictjson.Limits{Bytes: quorum.MaxStatementBytes, Depth: 32}) != nil {
		return nil
	}
	seen := map[string]bool{}
	for _, text := range keyText.FindAll(envelope.Payload, maxKeys) {
		name := string(bytes.Trim(text, `"`))
		if key, err := job.ParseKey(name); err == nil && !seen[name] {
			keys = append(keys, key)
		}
		seen[name] = true
	}
	return keys
}
