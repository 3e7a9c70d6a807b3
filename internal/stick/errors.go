package stick

import (
	"fmt"

	"github.com/phasebased/phase/internal/term"
)

// A Reason is why nothing is written, or why what was written is not a medium.
type Reason int

// The reasons, in the order of their codes.
const (
	_            Reason = iota
	NoDevice            // there is none at this path
	NotDevice           // it is no block device
	IsPartition         // of a disk, and no disk
	IsVirtual           // made of other devices, or of memory
	IsSystem            // the running system stands on it
	IsMounted           // somewhere, in any namespace
	InUse               // by RAID, LVM, encryption, a loop device
	IsFixed             // built in, not a stick
	IsReadOnly          //
	TooSmall            //
	IsBusy              // somebody has it for himself
	HoldsImage          // the image lies on it
	SectorSize          // not that of the image
	NoMedium            // an empty card reader
	NotAllowed          // to this user
	NotConfirmed        // by who asked for it
	Replaced            // by another disk, meanwhile
	NoImage             // nothing that can be written to a stick
	BrokenImage         // its partition table is damaged
	ImageChanged        // while it was written
	FakeCapacity        // it has less room than it says
	NotKept             // it has other bytes than it was given
	DeviceError         // it said so itself
	Gone                // unplugged
	Interrupted         //
	Unsupported         // on this system
)

// An Error says what was refused or failed, and about which device or image.
type Error struct {
	Reason Reason
	Path   string
	Text   string // the rest of the sentence
	Err    error  // what is below, if anything
}

func (e *Error) Error() string {
	text := e.Path + " " + e.Text
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return fmt.Sprintf("%s [%s]", text, e.Code())
}

func (e *Error) Unwrap() error { return e.Err }

// Code is "WRITE-0NN"; docs/codes.md has them all.
func (e *Error) Code() string { return fmt.Sprintf("WRITE-%03d", int(e.Reason)) }

// Hint says what to do next.
func (e *Error) Hint() string { return hints()[e.Reason] }

func hints() map[Reason]string {
	const another = "Use another stick; this one should not be trusted with anything."
	return map[Reason]string{
		NoDevice:     "Plug the stick in; phase image devices lists what can be written to.",
		NotDevice:    "Name a disk such as /dev/sdb; for a file of the right size, add --file.",
		IsPartition:  "Name the disk that it is a part of: an image has partitions of its own.",
		IsVirtual:    "Name the disk itself; what is made of disks or of memory boots nowhere.",
		IsSystem:     "Name another device: this one is never written to while its system runs.",
		IsMounted:    "Close what uses it and unmount it, or add --unmount.",
		InUse:        "Stop what stands on it first: mdadm --stop, vgchange -an, cryptsetup close, losetup -d or swapoff.",
		IsFixed:      "Name a stick; to overwrite a built-in disk, add --fixed and give its model as --confirm, or type it when asked.",
		IsReadOnly:   "Move the card's lock, or use another stick: worn-out ones become read-only.",
		TooSmall:     "Use a larger stick, or build a smaller image.",
		IsBusy:       "Close the program that has it open; fuser -v names it.",
		HoldsImage:   "Copy the image to another disk first.",
		SectorSize:   "Use a medium with sectors of 512 bytes; images are made for those.",
		NoMedium:     "Put a card into the reader.",
		NotAllowed:   "Run it again as root: sudo phase image write.",
		NotConfirmed: "Type what is asked for, or give it as --confirm in a script.",
		Replaced:     "Look at phase image devices and start again.",
		NoImage:      "Build one with phase image build; other formats become raw images with phase image convert, compressed ones with their own tool.",
		BrokenImage:  "Download or build the image again; phase image verify tells whether it is whole.",
		ImageChanged: "Wait until the image is complete, then write it again.",
		FakeCapacity: another,
		NotKept:      another,
		DeviceError:  "Try another port, without a hub; if it happens again, use another stick.",
		Gone:         "Plug it in again and write the image from the start.",
		Interrupted:  "Write the image again from the start; until then nothing starts from this device.",
		Unsupported:  "Write the raw image with balenaEtcher or Rufus (in its DD mode), or with Linux, and compare it afterwards with SHA256SUMS.",
	}
}

// refuse makes an error whose sentence begins with the path.
func refuse(reason Reason, path, format string, args ...any) *Error {
	return &Error{Reason: reason, Path: path, Text: fmt.Sprintf(format, args...)}
}

func size(n int64) string { return term.Bytes(n) }
