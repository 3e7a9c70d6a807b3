// Package sums is how a stranger checks a download with nothing of ours: a list
// of digests that coreutils read, and two signatures of it that OpenSSL and
// minisign read.
//
//	SHA256SUMS          "<64 hex digits>  <name>\n" for each file, sorted by name
//	SHA256SUMS.sig      the 64 bytes of an Ed25519 signature (RFC 8032) of SHA256SUMS
//	SHA256SUMS.minisig  the same signature as minisign writes it, with a comment
//	                    that is signed too
//
// The list is checked before a byte of it is believed: Open takes the exact bytes,
// a signature and a key that the caller trusts, and only then parses. The key is
// of a role of its own, "media": it signs what people download, never what
// machines boot, so that neither can be taken for the other.
//
// minisign's older algorithm "Ed" is used, which signs the file itself and not a
// BLAKE2b digest of it: so both tools check one signature of one key, and the
// list is small. minisign 0.11 and 0.12 verify it; its option -H would refuse it.
//
// What is read is foreign: sizes, counts and names are bounded, and a name leads
// nowhere but below the folder of the list, on every system.
package sums

// Names of the three files, side by side in the folder that the list is about.
const (
	Name        = "SHA256SUMS"
	SigName     = Name + ".sig"
	MinisigName = Name + ".minisig"
)

// Limits of what is read.
const (
	MaxBytes   = 1 << 20 // of a list
	MaxFiles   = 4096
	maxName    = 512
	maxDepth   = 8
	maxSigFile = 4 << 10 // of a signature or key file
)
