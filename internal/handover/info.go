// Package handover gives the machine to the verified system: it loads the new
// kernel and its initramfs from memory and starts it (kexec), without firmware
// and without a disk.
//
// # What is trusted
//
// Only files that package fetch made, each compared with the manifest whose
// signatures were checked: Load takes a *manifest.Verified and *fetch.File, and
// refuses a file whose digest or size is not the manifest's. The files are
// sealed memory, so what was hashed is what is loaded. The kernel's command
// line is the signed one.
//
// # What the next kernel gets
//
// Its initramfs is the publisher's, byte for byte, followed by a second cpio
// archive with /phase/handover.json (Info) and /phase/rootfs.img; the kernel
// unpacks one after the other. A foreign publisher's init simply finds two
// files more than it expects.
//
// # Memory
//
// Everything is held in memory three times and more at once; see Need. So Load
// takes the files over and closes each one as soon as its bytes are elsewhere:
// after a failure they must be fetched again (from the store, if there is one).
package handover

import (
	"errors"
	"fmt"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/strictjson"
	"github.com/phasebased/phase/internal/timeline"
	"github.com/phasebased/phase/manifest"
)

// SchemaVersion is the version of Info that this package writes and reads.
const SchemaVersion = 1

// MaxInfoBytes bounds handover.json.
const MaxInfoBytes = 1 << 20

// MaxPointerBytes bounds the pointer in Documents, as package discover does.
const MaxPointerBytes = 2 << 10

// The files in the next kernel's initramfs.
const (
	InfoPath   = "/phase/handover.json"
	RootfsPath = "/phase/rootfs.img"
)

// ErrInfo is wrapped by the errors of ParseInfo and Info.Check.
var ErrInfo = errors.New("malformed handover information")

// Info is what the seed tells the next system: how this boot went, and where
// others like it can be found. It is no proof of anything: it comes from the
// seed's memory, as the new system itself does.
type Info struct {
	SchemaVersion int    `json:"schema_version"`
	Mode          string `json:"mode"`
	Tor           bool   `json:"tor,omitzero"` // all was asked through Tor: who cannot do so either asks nobody
	Channel       string `json:"channel"`
	Arch          string `json:"arch"`

	Manifest  Manifest         `json:"manifest"`
	Bases     []string         `json:"bases"`              // provider base URLs that served this boot, best first
	Bootstrap []string         `json:"bootstrap"`          // DHT peers, as multiaddresses
	Cache     bool             `json:"cache"`              // the seed used a cache partition: it is there to be found
	CacheID   string           `json:"cache_id,omitempty"` // of its file system, by which it is told from others
	Overlay   string           `json:"overlay,omitempty"`  // OverlayMemory, the default, or OverlayCache
	Rootfs    *Rootfs          `json:"rootfs,omitzero"`    // nil: there is none, or it is RootfsPath
	Timeline  []timeline.Stage `json:"timeline"`

	ClockState string         `json:"clock_state,omitzero"` // how the date was found
	Clock      time.Time      `json:"clock,omitzero"`       // the seed's best knowledge of the time at the hand-over; zero: none
	Network    strictjson.Raw `json:"network,omitzero"`     // how it is brought up, as cmd/internal/pid1 writes it

	Documents *Documents `json:"documents,omitzero"` // nil: the cache does not hold what was booted
}

// Documents are the files of the booted release as they came from its publisher,
// for a system that offers it to others. The cache holds the artifacts that the
// manifest names. Whoever uses a document verifies it: it carries its signatures.
type Documents struct {
	Manifest []byte   `json:"manifest"`
	Proof    []byte   `json:"proof,omitzero"`   // that the manifest is logged; empty: there is none
	Pointer  []byte   `json:"pointer,omitzero"` // empty: none was found, and the medium's own memory was booted
	Roots    [][]byte `json:"roots"`            // the medium's, and its successors up to the newest
}

func (d *Documents) check() error {
	switch {
	case d == nil:
		return nil
	case len(d.Manifest) == 0 || len(d.Manifest) > manifest.MaxManifestBytes:
		return fmt.Errorf("%w: a manifest of %d bytes", ErrInfo, len(d.Manifest))
	case len(d.Pointer) > MaxPointerBytes || len(d.Proof) > maxProof:
		return fmt.Errorf("%w: a pointer of %d bytes, a log proof of %d", ErrInfo, len(d.Pointer), len(d.Proof))
	case len(d.Roots) == 0 || len(d.Roots) > 1+manifest.MaxRootChain:
		return fmt.Errorf("%w: %d roots", ErrInfo, len(d.Roots))
	}
	for _, root := range d.Roots {
		if len(root) == 0 || len(root) > manifest.MaxRootBytes {
			return fmt.Errorf("%w: a root of %d bytes", ErrInfo, len(root))
		}
	}
	return nil
}

// Manifest names the manifest that was booted.
type Manifest struct {
	Version int64       `json:"version"`
	Digest  blob.Digest `json:"digest"` // of the signed payload
	KeyIDs  []string    `json:"key_ids"`
}

// Limits of what Info holds.
const (
	maxList = 64
	maxItem = 2048
	// maxProof bounds a log proof, as package logproof does.
	maxProof = 16 << 10
	// minYear and maxYear bound Clock, both included.
	minYear = 2020
	maxYear = 2199
)

// Check reports the first thing in i that is out of bounds, wrapping ErrInfo.
func (i Info) Check() error {
	switch {
	case i.SchemaVersion != SchemaVersion:
		return fmt.Errorf("%w: schema version %d, not %d", ErrInfo, i.SchemaVersion, SchemaVersion)
	case i.Mode == "" || i.Channel == "" || i.Arch == "":
		return fmt.Errorf("%w: mode, channel or arch is missing", ErrInfo)
	case i.Manifest.Version < 1 || i.Manifest.Digest.IsZero():
		return fmt.Errorf("%w: the manifest is not named", ErrInfo)
	}
	if year := i.Clock.UTC().Year(); !i.Clock.IsZero() && (year < minYear || year > maxYear) {
		return fmt.Errorf("%w: the clock says the year %d", ErrInfo, year)
	}
	for name, list := range map[string][]string{
		"bases": i.Bases, "bootstrap": i.Bootstrap, "key_ids": i.Manifest.KeyIDs,
		"names": {i.Mode, i.Channel, i.Arch, i.ClockState},
	} {
		if err := checkList(name, list); err != nil {
			return err
		}
	}
	if err := i.checkPlaces(); err != nil {
		return err
	}
	if err := timeline.CheckAll(i.Timeline); err != nil {
		return fmt.Errorf("%w: %w", ErrInfo, err)
	}
	return i.Documents.check()
}

func checkList(name string, list []string) error {
	if len(list) > maxList {
		return fmt.Errorf("%w: %d %s, at most %d allowed", ErrInfo, len(list), name, maxList)
	}
	for _, item := range list {
		if len(item) > maxItem {
			return fmt.Errorf("%w: an item of %s has %d bytes, at most %d allowed", ErrInfo, name, len(item), maxItem)
		}
	}
	return nil
}

// Marshal writes handover.json. An Info that ParseInfo would refuse is an error,
// but a timeline that does not fit is left out, and then the documents: nobody
// needs them to boot.
func (i Info) Marshal() ([]byte, error) {
	data, err := i.marshal()
	if len(i.Timeline) > timeline.MaxStages || errors.Is(err, errTooLarge) {
		i.Timeline = nil
		data, err = i.marshal()
	}
	if errors.Is(err, errTooLarge) {
		i.Documents = nil
		data, err = i.marshal()
	}
	return data, err
}

var errTooLarge = errors.New("too large")

func (i Info) marshal() ([]byte, error) {
	if err := i.Check(); err != nil {
		return nil, err
	}
	i.Bases, i.Bootstrap = orEmpty(i.Bases), orEmpty(i.Bootstrap)
	i.Manifest.KeyIDs = orEmpty(i.Manifest.KeyIDs)
	i.Clock = i.Clock.UTC()
	if i.Timeline == nil {
		i.Timeline = []timeline.Stage{}
	}
	data, err := strictjson.MarshalCanonical(i)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInfo, err)
	}
	if len(data) > MaxInfoBytes {
		return nil, fmt.Errorf("%w: %w: %d bytes, at most %d allowed", ErrInfo, errTooLarge, len(data), MaxInfoBytes)
	}
	return append(data, '\n'), nil
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// ParseInfo reads handover.json: strict JSON, within bounds. Members that it does
// not know are passed over: a medium is renewed by its owner and a release by its
// publisher, so a system may be older than the seed that starts it, and refusing
// would leave the machine without either. Every member that was added so far is one
// that a system can do without. One that it cannot raises SchemaVersion, which is
// checked.
func ParseInfo(data []byte) (Info, error) {
	var i Info
	lim := strictjson.Limits{Bytes: MaxInfoBytes + 1, Depth: 16}
	if err := strictjson.Unmarshal(data, &i, lim); err != nil {
		return Info{}, fmt.Errorf("%w: %w", ErrInfo, err)
	}
	if err := i.Check(); err != nil {
		return Info{}, err
	}
	return i, nil
}
