package sums

import "github.com/phasebased/phase/internal/refusal"

// Reasons for which a list, a signature or a key is refused; match them with
// errors.Is.
var (
	ErrList = refusal.New("MEDIA-001", "not a list of digests as this program writes them",
		"Download SHA256SUMS again, from the publisher.")
	ErrSignature = refusal.New("MEDIA-002", "not a signature of this list by this key",
		"Do not use these files; download SHA256SUMS and its signature again, and check that the key is the publisher's.")
	ErrSigFile = refusal.New("MEDIA-003", "not a signature file",
		"Download SHA256SUMS.sig or SHA256SUMS.minisig again.")
	ErrOtherKey = refusal.New("MEDIA-004", "signed by another key",
		"Compare the key with the one that the publisher names in another place than the download.")
	ErrKey = refusal.New("MEDIA-005", "not a public key (PEM, minisign's, or the .pub file of keygen)",
		"Name the publisher's key for media: a PEM file, a minisign key or a .pub file.")
	ErrMissing = refusal.New("MEDIA-006", "a file of the list is missing",
		"Download the file that is named.")
	ErrDiffers = refusal.New("MEDIA-007", "a file is not the one of the list",
		"Do not use the file; download it again, and if it differs again, tell the publisher.")
	ErrUnlisted = refusal.New("MEDIA-008", "a file does not stand in the list",
		"Use nothing that SHA256SUMS does not name.")
)

// Error says what was refused, and why; its reason is one of those above.
type Error = refusal.Error
