package manifest

import (
	"strings"
)

// verityVectors are manifests whose root file system has a hash tree, or says so.
var verityVectors = []vector{
	{name: "manifest-ok-verity", item: 0, make: withVerity("12288", verityOf(veritySalt, "8192"))},
	{name: "manifest-ok-verity-of-one-block", item: 12, make: withVerity("4096", verityOf(veritySalt, "4096"))},
	{name: "manifest-ok-verity-of-128-blocks", item: 12, make: withVerity("528384", verityOf(veritySalt, "524288"))},
	{name: "manifest-ok-verity-of-129-blocks", item: 12, make: withVerity("540672", verityOf(veritySalt, "528384"))},
	{name: "manifest-ok-verity-as-large-as-can-be", item: 12, make: withVerity("8589934592", verityOf(veritySalt, "8522825728"))},
	{name: "manifest-ok-verity-without-salt", item: 9, make: withVerity("12288", `{"data_size":8192,"root":`+treeRoot+`}`)},
	{name: "manifest-ok-verity-salt-32-bytes", item: 12, make: withVerity("12288", verityOf(`"`+strings.Repeat("a1", 32)+`"`, "8192"))},
	{name: "manifest-ok-unknown-member-of-verity", item: 16, make: withVerity("12288", `{"data_size":8192,"kind":{"A":1},"root":`+treeRoot+`}`)},

	{name: "manifest-verity-of-the-kernel", item: 11, rule: RulePolicy, make: manifestEdit(`"urls":["https://mirror.example/kernel"]`,
		`"urls":["https://mirror.example/kernel"],"verity":`+verityOf(veritySalt, "8192"))},
	{name: "manifest-verity-of-the-initramfs", item: 11, rule: RulePolicy, make: manifestEdit(`"size":9,"urls":[]`, `"size":9,"urls":[],"verity":`+verityOf(veritySalt, "8192"))},
	{name: "manifest-verity-of-a-device-tree", item: 11, rule: RulePolicy, make: manifestEdit(`"size":3,"urls":[]`, `"size":3,"urls":[],"verity":`+verityOf(veritySalt, "8192"))},

	{name: "manifest-verity-null", item: 11, rule: RuleMalformed, make: withVerity("12288", "null")},
	{name: "manifest-verity-text", item: 11, rule: RuleMalformed, make: withVerity("12288", treeRoot)},
	{name: "manifest-verity-a-list", item: 11, rule: RuleMalformed, make: withVerity("12288", "["+verityOf(veritySalt, "8192")+"]")},
	{name: "manifest-verity-empty", item: 11, rule: RuleMalformed, make: withVerity("12288", "{}")},
	{name: "manifest-verity-case-beside", item: 3, rule: RuleMalformed, make: withVerity("12288", `{"Root":1,`+verityOf(veritySalt, "8192")[1:])},
	{name: "manifest-verity-duplicate", item: 2, rule: RuleMalformed, make: withVerity("12288", `{"data_size":8192,`+verityOf(veritySalt, "8192")[1:])},
	{name: "manifest-verity-not-canonical-order", item: 9, rule: RuleMalformed, make: withVerity("12288", `{"root":`+treeRoot+`,"data_size":8192}`)},

	{name: "manifest-verity-root-missing", item: 11, rule: RuleMalformed, make: withVerity("12288", `{"data_size":8192,"salt":`+veritySalt+`}`)},
	{name: "manifest-verity-root-zeros", item: 11, rule: RuleMalformed, make: withVerity("12288", `{"data_size":8192,"root":"sha256:`+strings.Repeat("0", 64)+`"}`)},
	{name: "manifest-verity-root-upper-case", item: 11, rule: RuleMalformed, make: withVerity("12288", `{"data_size":8192,"root":"sha256:`+strings.ToUpper(treeRoot[8:])+`}`)},
	{name: "manifest-verity-root-bare", item: 11, rule: RuleMalformed, make: withVerity("12288", `{"data_size":8192,"root":"`+treeRoot[8:]+`}`)},
	{name: "manifest-verity-root-other-algorithm", item: 11, rule: RuleMalformed, make: withVerity("12288", `{"data_size":8192,"root":"sha512:`+treeRoot[8:]+`}`)},

	{name: "manifest-verity-salt-empty", item: 9, rule: RuleMalformed, make: withVerity("12288", verityOf(`""`, "8192"))},
	{name: "manifest-verity-salt-null", item: 11, rule: RuleMalformed, make: withVerity("12288", verityOf("null", "8192"))},
	{name: "manifest-verity-salt-a-number", item: 11, rule: RuleMalformed, make: withVerity("12288", verityOf("11", "8192"))},
	{name: "manifest-verity-salt-dash", item: 11, rule: RuleMalformed, make: withVerity("12288", verityOf(`"-"`, "8192"))},
	{name: "manifest-verity-salt-odd", item: 11, rule: RuleMalformed, make: withVerity("12288", verityOf(`"abc"`, "8192"))},
	{name: "manifest-verity-salt-upper-case", item: 11, rule: RuleMalformed, make: withVerity("12288", verityOf(`"AB"`, "8192"))},
	{name: "manifest-verity-salt-no-digits", item: 11, rule: RuleMalformed, make: withVerity("12288", verityOf(`"zz"`, "8192"))},
	{name: "manifest-verity-salt-two-words", item: 11, rule: RuleMalformed, make: withVerity("12288", verityOf(`"ab cd "`, "8192"))},
	{name: "manifest-verity-salt-33-bytes", item: 12, rule: RuleMalformed, make: withVerity("12288", verityOf(`"`+strings.Repeat("a1", 33)+`"`, "8192"))},

	{name: "manifest-verity-data-size-missing", item: 11, rule: RuleMalformed, make: withVerity("12288", `{"root":`+treeRoot+`}`)},
	{name: "manifest-verity-data-size-text", item: 4, rule: RuleMalformed, make: withVerity("12288", verityOf(veritySalt, `"8192"`))},
	{name: "manifest-verity-data-size-fraction", item: 4, rule: RuleMalformed, make: withVerity("12288", verityOf(veritySalt, "8192.0"))},
	{name: "manifest-verity-data-size-0", item: 12, rule: RulePolicy, make: withVerity("12288", verityOf(veritySalt, "0"))},
	{name: "manifest-verity-data-size-negative", item: 12, rule: RulePolicy, make: withVerity("12288", verityOf(veritySalt, "-4096"))},
	{name: "manifest-verity-data-size-1", item: 12, rule: RulePolicy, make: withVerity("1", verityOf(veritySalt, "1"))},
	{name: "manifest-verity-data-size-no-whole-blocks", item: 12, rule: RulePolicy, make: withVerity("12800", verityOf(veritySalt, "8704"))},
	{name: "manifest-verity-data-size-above-the-artifact", item: 12, rule: RulePolicy, make: withVerity("12288", verityOf(veritySalt, "16384"))},
	{name: "manifest-verity-data-size-enormous", item: 12, rule: RulePolicy, make: withVerity("12288", verityOf(veritySalt, "9007199254736896"))},
	{name: "manifest-verity-data-size-2-to-the-53", item: 4, rule: RuleMalformed, make: withVerity("12288", verityOf(veritySalt, "9007199254740992"))},
	{name: "manifest-verity-no-room-for-the-tree", item: 12, rule: RulePolicy, make: withVerity("8192", verityOf(veritySalt, "8192"))},
	{name: "manifest-verity-a-level-too-few", item: 12, rule: RulePolicy, make: withVerity("536576", verityOf(veritySalt, "528384"))},
	{name: "manifest-verity-bytes-behind-the-tree", item: 12, rule: RulePolicy, make: withVerity("12289", verityOf(veritySalt, "8192"))},
	{name: "manifest-verity-a-block-behind-the-tree", item: 12, rule: RulePolicy, make: withVerity("16384", verityOf(veritySalt, "8192"))},
}

var treeRoot = digestOf("tree")

const veritySalt = `"00ff7a"`

func verityOf(salt, dataSize string) string {
	return `{"data_size":` + dataSize + `,"root":` + treeRoot + `,"salt":` + salt + `}`
}

// withVerity gives the root file system a size and a member verity.
func withVerity(size, verity string) func(*generator) []byte {
	return manifestEdit(`"size":6,"urls":[]`, `"size":`+size+`,"urls":[],"verity":`+verity)
}
