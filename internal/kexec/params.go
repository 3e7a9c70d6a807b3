package kexec

import "encoding/binary"

// x86Params are the boot parameters ("zero page") of the new kernel, with what
// they point to behind them (Documentation/arch/x86/zero-page.rst): the command
// line, then a list of further data.
type x86Params struct {
	img     bzImage
	machine x86Machine
	cmdline string
	initrd  span
}

// Offsets of the boot parameters outside of the setup header.
const (
	offRSDP         = 0x070
	offExtRamdisk   = 0x0c0
	offExtRamdiskSz = 0x0c4
	offExtCmdline   = 0x0c8
	offE820Count    = 0x1e8
	offE820         = 0x2d0
	e820Size        = 20
	maxE820         = 128 // in the page; more go to the list behind it

	loaderKexec = 0xd0

	setupE820    = 1 // types of the list's entries
	setupRNGSeed = 9
)

// kept are the parts of the running kernel's parameters that stay true: what is
// known of screen, monitor, hard disks and how the firmware checks signatures.
var kept = []struct{ start, end int }{
	{0x000, 0x040}, // screen_info
	{0x140, 0x1c0}, // edid_info
	{0x1e9, 0x1eb}, // eddbuf_entries, edd_mbr_sig_buf_entries
	{0x1ec, 0x1ed}, // secure_boot
	{0x290, 0x2d0}, // edd_mbr_sig_buffer
	{0xd00, 0xeec}, // eddbuf
}

const cmdlineRoom = 4096

// size is how many bytes build makes.
func (b x86Params) size() uint64 { return uint64(len(b.build(0))) }

// build writes the parameters for the physical address at.
func (b x86Params) build(at uint64) []byte {
	le := binary.LittleEndian
	page := make([]byte, paramsSize+cmdlineRoom)
	for _, k := range kept {
		copy(page[k.start:k.end], b.machine.params[k.start:])
	}
	copy(page[offSetup:], b.img.setup)
	copy(page[offSubarch:offSubarch+4], b.machine.params[offSubarch:])
	page[offLoader] = loaderKexec
	cmdline := at + paramsSize
	copy(page[paramsSize:], b.cmdline)
	put := func(low, high int, value uint64) {
		le.PutUint32(page[low:], uint32(value))
		le.PutUint32(page[high:], uint32(value>>32))
	}
	put(offCmdline, offExtCmdline, cmdline)
	put(offRamdisk, offExtRamdisk, b.initrd.start)
	put(offRamdiskSize, offExtRamdiskSz, b.initrd.size())
	le.PutUint64(page[offRSDP:], b.machine.rsdp)
	regions := b.machine.regions
	inPage := min(len(regions), maxE820)
	page[offE820Count] = byte(inPage)
	copy(page[offE820:], marshalE820(regions[:inPage]))
	le.PutUint64(page[offSetupData:], 0)
	link := offSetupData
	if inPage < len(regions) {
		page, link = appendSetupData(page, link, at, setupE820, marshalE820(regions[inPage:]))
	}
	if b.machine.runtime != nil {
		page, link = b.machine.runtime.addTo(page, link, at)
	}
	if len(b.machine.seed) > 0 {
		page, _ = appendSetupData(page, link, at, setupRNGSeed, b.machine.seed)
	}
	return page
}

func marshalE820(regions []region) []byte {
	var out []byte
	for _, r := range regions {
		out = binary.LittleEndian.AppendUint64(out, r.span.start)
		out = binary.LittleEndian.AppendUint64(out, r.span.size())
		out = binary.LittleEndian.AppendUint32(out, r.kind)
	}
	return out
}

// appendSetupData adds one entry to the list: its address goes to link, where the
// entry before it ends. The new link is returned.
func appendSetupData(page []byte, link int, at uint64, kind uint32, data []byte) ([]byte, int) {
	le := binary.LittleEndian
	for len(page)%16 != 0 {
		page = append(page, 0)
	}
	next := len(page)
	le.PutUint64(page[link:], at+uint64(next))
	page = le.AppendUint64(page, 0)
	page = le.AppendUint32(page, kind)
	page = le.AppendUint32(page, uint32(len(data)))
	return append(page, data...), next
}
