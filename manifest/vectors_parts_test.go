package manifest

import (
	"fmt"
	"strings"

	"github.com/phasebased/phase/blob"
)

// partVectors are manifests whose kernel has a chunk list, or patches. The kernel
// has 6 bytes, so a patch has at most that.
var partVectors = []vector{
	{name: "manifest-ok-chunks", item: 0, make: withParts(`"chunks":` + chunkList)},
	{name: "manifest-ok-deltas", item: 0, make: withParts(`"chunks":` + chunkList + `,"deltas":[` + patches(1) + `]`)},
	{name: "manifest-ok-8-deltas", item: 7, make: withParts(`"deltas":[` + patches(8) + `]`)},
	{name: "manifest-ok-delta-as-large-as-the-artifact", item: 12, make: withDelta(firstBlob, patchBlob, "6")},
	{name: "manifest-ok-unknown-member-of-delta", item: 16, make: withParts(`"deltas":[{"form":{"A":1},"from":` + firstBlob + `,"hash":` + patchBlob + `,"size":5}]`)},

	{name: "manifest-chunks-upper-case", item: 11, rule: RuleMalformed, make: withParts(`"chunks":"sha256:` + strings.ToUpper(chunkList[8:]))},
	{name: "manifest-chunks-other-algorithm", item: 11, rule: RuleMalformed, make: withParts(`"chunks":"sha512:` + chunkList[8:])},
	{name: "manifest-chunks-63-digits", item: 11, rule: RuleMalformed, make: withParts(`"chunks":` + chunkList[:71] + `"`)},
	{name: "manifest-chunks-zeros", item: 11, rule: RuleMalformed, make: withParts(`"chunks":"sha256:` + strings.Repeat("0", 64) + `"`)},
	{name: "manifest-chunks-empty", item: 11, rule: RuleMalformed, make: withParts(`"chunks":""`)},
	{name: "manifest-chunks-null", item: 11, rule: RuleMalformed, make: withParts(`"chunks":null`)},
	{name: "manifest-chunks-a-list", item: 11, rule: RuleMalformed, make: withParts(`"chunks":[` + chunkList + `]`)},
	{name: "manifest-chunks-a-number", item: 11, rule: RuleMalformed, make: withParts(`"chunks":1`)},
	{name: "manifest-chunks-are-the-artifact", item: 11, rule: RulePolicy, make: withParts(`"chunks":"` + kernelHash + `"`)},

	{name: "manifest-deltas-null", item: 11, rule: RuleMalformed, make: withParts(`"deltas":null`)},
	{name: "manifest-deltas-empty", item: 9, rule: RuleMalformed, make: withParts(`"deltas":[]`)},
	{name: "manifest-deltas-not-a-list", item: 11, rule: RuleMalformed, make: withParts(`"deltas":` + patches(1))},
	{name: "manifest-delta-null", item: 11, rule: RuleMalformed, make: withParts(`"deltas":[null]`)},
	{name: "manifest-delta-text", item: 11, rule: RuleMalformed, make: withParts(`"deltas":[` + patchBlob + `]`)},
	{name: "manifest-delta-case-beside", item: 3, rule: RuleMalformed, make: withParts(`"deltas":[{"Size":5,"from":` + firstBlob + `,"hash":` + patchBlob + `,"size":5}]`)},
	{name: "manifest-delta-not-canonical-order", item: 9, rule: RuleMalformed, make: withParts(`"deltas":[{"hash":` + patchBlob + `,"from":` + firstBlob + `,"size":5}]`)},
	{name: "manifest-delta-duplicate", item: 2, rule: RuleMalformed, make: withParts(`"deltas":[{"from":` + firstBlob + `,"hash":` + patchBlob + `,"size":5,"size":5}]`)},
	{name: "manifest-delta-from-missing", item: 11, rule: RuleMalformed, make: withParts(`"deltas":[{"hash":` + patchBlob + `,"size":5}]`)},
	{name: "manifest-delta-hash-missing", item: 11, rule: RuleMalformed, make: withParts(`"deltas":[{"from":` + firstBlob + `,"size":5}]`)},
	{name: "manifest-delta-size-missing", item: 11, rule: RuleMalformed, make: withParts(`"deltas":[{"from":` + firstBlob + `,"hash":` + patchBlob + `}]`)},
	{name: "manifest-delta-from-upper-case", item: 11, rule: RuleMalformed, make: withDelta(`"sha256:`+strings.ToUpper(firstBlob[8:]), patchBlob, "5")},
	{name: "manifest-delta-hash-upper-case", item: 11, rule: RuleMalformed, make: withDelta(firstBlob, `"sha256:`+strings.ToUpper(patchBlob[8:]), "5")},
	{name: "manifest-delta-from-null", item: 11, rule: RuleMalformed, make: withDelta("null", patchBlob, "5")},
	{name: "manifest-delta-size-text", item: 4, rule: RuleMalformed, make: withDelta(firstBlob, patchBlob, `"5"`)},
	{name: "manifest-delta-size-fraction", item: 4, rule: RuleMalformed, make: withDelta(firstBlob, patchBlob, "5.0")},
	{name: "manifest-delta-size-0", item: 12, rule: RulePolicy, make: withDelta(firstBlob, patchBlob, "0")},
	{name: "manifest-delta-size-negative", item: 12, rule: RulePolicy, make: withDelta(firstBlob, patchBlob, "-5")},
	{name: "manifest-delta-larger-than-the-artifact", item: 12, rule: RulePolicy, make: withDelta(firstBlob, patchBlob, "7")},
	{name: "manifest-9-deltas", item: 7, rule: RulePolicy, make: withParts(`"deltas":[` + patches(9) + `]`)},
	{name: "manifest-deltas-from-one-blob", item: 11, rule: RulePolicy, make: withParts(`"deltas":[` + patch(1) + `,` + strings.Replace(patch(2), digestOf("origin 2"), digestOf("origin 1"), 1) + `]`)},
	{name: "manifest-delta-from-the-artifact", item: 11, rule: RulePolicy, make: withDelta(`"`+kernelHash+`"`, patchBlob, "5")},
	{name: "manifest-delta-is-the-artifact", item: 11, rule: RulePolicy, make: withDelta(firstBlob, `"`+kernelHash+`"`, "6")},
	{name: "manifest-delta-is-its-origin", item: 11, rule: RulePolicy, make: withDelta(firstBlob, firstBlob, "5")},
	{name: "manifest-delta-is-the-chunk-list", item: 11, rule: RulePolicy, make: withParts(`"chunks":` + chunkList + `,"deltas":[{"from":` + firstBlob + `,"hash":` + chunkList + `,"size":5}]`)},
}

// The blobs of the vectors, as JSON.
var (
	chunkList = digestOf("chunk list")
	firstBlob = digestOf("origin 1")
	patchBlob = digestOf("patch 1")
)

func digestOf(s string) string { return `"` + blob.Of([]byte(s)).String() + `"` }

// withParts gives the kernel further members, which sort before its hash.
func withParts(members string) func(*generator) []byte {
	return manifestEdit(`"hash":"`+kernelHash, members+`,"hash":"`+kernelHash)
}

func withDelta(from, hash, size string) func(*generator) []byte {
	return withParts(`"deltas":[{"from":` + from + `,"hash":` + hash + `,"size":` + size + `}]`)
}

func patch(i int) string {
	return fmt.Sprintf(`{"from":%s,"hash":%s,"size":5}`, digestOf(fmt.Sprint("origin ", i)), digestOf(fmt.Sprint("patch ", i)))
}

func patches(n int) string {
	var list []string
	for i := range n {
		list = append(list, patch(i+1))
	}
	return strings.Join(list, ",")
}
