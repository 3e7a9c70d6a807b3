package ceremony

import (
	"errors"

	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/manifest"
)

// asPublisher gives a refusal of package manifest, which speaks to whoever boots
// a machine, a hint for those who make the documents.
func asPublisher(err error) error {
	var root *release.RootError
	if errors.As(err, &root) && isDraft(root.File.Draft) {
		return advice{err, "It lacks signatures: keep it in a folder of its own until it is complete, or name the root files one by one."}
	}
	var refused *manifest.Error
	if !errors.As(err, &refused) {
		return err
	}
	hint := publisherHints[refused.Rule][refused.Object]
	if hint == "" {
		hint = publisherHints[refused.Rule][""]
	}
	if hint == "" {
		return err // its own says enough
	}
	return advice{err, hint}
}

// publisherHints say what to do next, by the rule that was broken and the object
// that broke it; "" is any other one.
var publisherHints = map[manifest.Rule]map[string]string{
	manifest.RuleKey: {"": "Name the roots of your own ceremony with --root."},
	manifest.RuleSignature: {
		"manifest": "See with `phase release manifest inspect` whose signatures are missing, and ask these people to sign.",
		"pointer":  "Sign it with `phase release pointer sign` and a timestamp key of the newest root.",
		"root":     "See with `phase release root inspect` whose signatures are missing, and ask these people to sign.",
	},
	manifest.RuleSchema:      {"": "Use a newer release of this program."},
	manifest.RuleRollback:    {"": "Give the release a higher number than those before it, and have it signed."},
	manifest.RuleSameVersion: {"": "Give one of the two releases a higher number, and have it signed."},
	manifest.RulePointer:     {"": "Name the manifest that the pointer was made for, or sign a pointer to this one."},
	manifest.RuleExpired: {
		"manifest": "Check the clock; if it is right, make a new manifest with `phase release manifest create` and have it signed.",
		"pointer":  "Check the clock; if it is right, sign a new pointer with `phase release pointer sign`.",
		"root":     "Check the clock; if it is right, make a successor with `phase release root renew` and have it signed.",
	},
	manifest.RuleFuture:      {"": "Check the clock of this machine and of the one that made the file."},
	manifest.RulePolicy:      {"": "Make the document anew: no machine ever accepts this one."},
	manifest.RuleLog:         {"": "Write its log proof anew with `phase release log prove`, after `phase release log add`."},
	manifest.RuleRootVersion: {"": "Name the newer roots with --root as well."},
	manifest.RuleRootChain:   {"": "See with `phase release root inspect` who has signed it: a root needs enough signatures of the root before it and of its own, and the next number."},
}
