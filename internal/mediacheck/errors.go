package mediacheck

import "github.com/phasebased/phase/internal/refusal"

// Reasons for which a medium is refused; match them with errors.Is.
var (
	ErrTable = refusal.New("MEDIA-020", "the partition table is not whole",
		"Download the image again, or write the stick again; nothing of ours has such a partition table.")
	ErrSize = refusal.New("MEDIA-021", "the image is not of the size that its partition table says",
		"Download the image again: it is cut short, or something was added to it.")
	ErrBoot = refusal.New("MEDIA-022", "the boot partition cannot be read",
		"Download the image again, or write the stick again: its boot partition is damaged.")
	ErrSeed = refusal.New("MEDIA-023", "the partition with the medium's papers cannot be read",
		"Download the image again, or write the stick again: its second partition is damaged.")
	ErrPapers = refusal.New("MEDIA-024", "the medium's papers are not in order",
		"Download the image again; if it stays so, tell the publisher.")
	ErrFile = refusal.New("MEDIA-025", "a file on the boot partition is not the one in the medium's papers",
		"Do not boot this medium: write it again from an image that is verified.")
	ErrRootFile = refusal.New("MEDIA-026", "the medium's root of trust is not in order",
		"Do not boot this medium, and tell the publisher.")
	ErrChain = refusal.New("MEDIA-027", "nothing on the medium would start",
		"Do not boot this medium: write it again from an image that is verified.")
)

// Error says what was refused, and why; its reason is one of those above.
type Error = refusal.Error
