package manifest

import (
	"cmp"
	"maps"
	"slices"
)

// Rules returns all rules in the order of their codes, for pages and tests that
// must not miss one.
func Rules() []Rule {
	return slices.SortedFunc(maps.Keys(ruleInfo), func(a, b Rule) int { return cmp.Compare(a.Code(), b.Code()) })
}

// Code returns the number of the rule in docs/codes.md.
func (r Rule) Code() string { return ruleInfo[r].code }

// Hint says in one sentence what a person can do when the rule refused
// something. Error.Hint is more to the point where it knows the object.
func (r Rule) Hint() string { return ruleInfo[r].hint }
