package vm_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"hash/crc32"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/guid"
	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/nettest"
	"github.com/phasebased/phase/internal/vm"
)

// monotonic is the counter of starts that EDK2 keeps (MTC): it grows with every
// power on, whatever is started. Nothing else may differ after a Private boot.
const monotonic = "MTC-eb704011-1402-11d3-8e77-00a0c969723b"

// TestPrivateLeavesNothing boots one machine in Internet mode, then twice in Private
// mode, then another machine in Private mode. Private boots change no byte of any
// disk, the Internet boot's identity among them, and no variable of the firmware,
// nothing that they send tells this machine from others or one boot from the next,
// and nobody gets a receipt.
func TestPrivateLeavesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(b.release(1), "")
	b.serve()
	b.medium(lab.ImageOptions{})
	one := newHardware(t, b.run, "one", "52:54:00:a1:b2:c3", "4c4f5a3e-7a11-4d2e-9c31-5d3f6a7b8c9d")
	other := newHardware(t, b.run, "other", "52:54:00:d7:e8:f9", "9e0d4c2b-61f7-4f80-8b1a-0c9d8e7f6a5b")

	first := b.powerOn(one, "internet")
	if !slices.ContainsFunc(first.sent, func(f []byte) bool { return len(one.tellIn(f)) > 0 }) {
		t.Error("not even the Internet boot's network card shows in what was sent: this test would see nothing")
	}
	told := slices.Concat(one.tells, identityTells(first.outcome.Node))
	var boots []*outing
	for range 2 {
		before, received := b.state(one), b.received()
		boot := b.powerOn(one, "private")
		boots = append(boots, boot)
		b.unchanged(one, before)
		if now := b.received(); now != received {
			t.Errorf("a Private boot delivered %d receipts", now-received)
		}
		for _, want := range []string{"Private Mode", "receipt is signed"} {
			if !strings.Contains(boot.console, want) {
				t.Errorf("the console does not show %q:\n%s", want, calm(boot.console))
			}
		}
		boot.tellsNothing(t, told)
		if n := len(senders(boot.sent)); n != 2 {
			t.Errorf("%d hardware addresses were used, want one for the seed and one for what it starts", n)
		}
	}
	boots[0].differs(t, boots[1])
	boots[0].differs(t, first)
	for _, word := range common(utter(boots[0].sent), utter(boots[1].sent), utter(b.powerOn(other, "private").sent)) {
		t.Errorf("both Private boots of one machine sent %s, and another machine did not", word)
	}
}

// TestMisspeltKey: whoever meant Private mode and wrote it wrong is told so, before
// the network is touched.
func TestMisspeltKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.medium(lab.ImageOptions{Options: "phase.mod=private"})
	capture := filepath.Join(b.run, "capture.pcap")
	outcome, console := b.boot(lab.BootOptions{Nets: []vm.Net{{Kind: vm.NetUser, Capture: capture}}})
	b.refused(outcome, console, "BOOT-001", "ERROR: kernel command line: phase.mod: \"private\": unknown key")
	sent, err := framesSent(capture)
	check(t, err)
	if len(sent) > 0 {
		t.Errorf("%d frames were sent", len(sent))
	}
}

// hardware is what makes one machine differ from others.
type hardware struct {
	name, mac string
	vars      string // file of the firmware's variables
	disk      string // a disk that has nothing to do with Phase
	extra     []string
	tells     []tell
}

// newHardware is a machine with numbers of its own and a disk full of things that
// systems like to use: a file system whose journal wants replaying, swap, and a
// partition that every system can read.
func newHardware(t *testing.T, dir, name, mac, uuid string) *hardware {
	h := &hardware{name: name, mac: mac, vars: filepath.Join(dir, name+"-vars.fd"), disk: filepath.Join(dir, name+"-disk.img")}
	id := image.DeriveGUID("ext4", name)
	strangersDisk(t, h.disk, name, id)
	serial := strings.ToUpper(name) + "-SERIAL-7F3A91"
	h.extra = []string{
		"-uuid", uuid, "-smbios", "type=1,manufacturer=Acme,product=Anvil,serial=" + serial + "-1,uuid=" + uuid,
		"-smbios", "type=2,serial=" + serial + "-2", "-smbios", "type=3,serial=" + serial + "-3,asset=" + serial + "-4",
		"-drive", "if=none,id=strange,format=raw,file=" + h.disk,
		"-device", "virtio-blk-pci,drive=strange,serial=" + serial + "-5",
	}
	hardware, err := net.ParseMAC(mac)
	if err != nil {
		t.Fatal(err)
	}
	h.tells = []tell{{"serial number", []byte(serial)}, {"serial number", []byte(strings.ToLower(serial))}}
	h.tells = append(h.tells, tellsOf("network card", hardware)...)
	h.tells = append(h.tells, tell{"address made from the network card", append([]byte{0xff, 0xfe}, hardware[3:]...)})
	h.tells = append(h.tells, guidTells(t, "UUID of the machine", uuid)...)
	h.tells = append(h.tells, guidTells(t, "UUID of a file system", id.String())...)
	return h
}

// strangersDisk writes the second disk.
func strangersDisk(t *testing.T, path, name string, id guid.GUID) {
	t.Helper()
	var parts []image.Partition
	for _, p := range []struct {
		label string
		size  int64
	}{{"home", 32 << 20}, {"swap", 8 << 20}, {"data", image.MinFAT32}} {
		parts = append(parts, image.Partition{Label: p.label, Type: image.TypeLinux(), ID: image.DeriveGUID(p.label, name), Size: p.size})
	}
	parts, size, err := image.Layout(parts)
	check(t, err)
	f, err := image.CreateSparse(path, size)
	check(t, err)
	defer f.Close()
	check(t, image.WriteGPT(f, image.DeriveGUID("disk", name), parts, size))
	ext4 := image.Ext4{Label: "home", UUID: id, Size: parts[0].Size, Offset: parts[0].Offset, Time: labTime}
	check(t, ext4.Write(t.Context(), path))
	wantRecovery(t, f, parts[0].Offset)
	swap := make([]byte, 4096)
	binary.LittleEndian.PutUint32(swap[1024:], 1)
	binary.LittleEndian.PutUint32(swap[1028:], uint32(parts[1].Size/4096-1))
	copy(swap[4086:], "SWAPSPACE2")
	_, err = f.WriteAt(swap, parts[1].Offset)
	check(t, err)
	files := &image.Tree{}
	files.Bytes("letter.txt", 0o644, []byte("Dear reader"))
	fat := image.FAT32{Label: "DATA", Serial: 0x47114712, Size: parts[2].Size, Offset: parts[2].Offset, Time: labTime}
	check(t, fat.Write(io.NewOffsetWriter(f, parts[2].Offset), files))
}

// wantRecovery marks an ext4 as not unmounted (needs_recovery in its superblock):
// whoever mounts it, if only to read, writes to it.
func wantRecovery(t *testing.T, f *os.File, offset int64) {
	t.Helper()
	const at, incompatible, readOnly, checksums, sum = 1024, 0x60, 0x64, 0x400, 0x3fc
	super := make([]byte, 1024)
	_, err := f.ReadAt(super, offset+at)
	check(t, err)
	super[incompatible] |= 4
	if binary.LittleEndian.Uint32(super[readOnly:])&checksums != 0 {
		binary.LittleEndian.PutUint32(super[sum:], ^crc32.Checksum(super[:sum], crc32.MakeTable(crc32.Castagnoli)))
	}
	_, err = f.WriteAt(super, offset+at)
	check(t, err)
}

var check = nettest.Check

// outing is one boot and what it sent.
type outing struct {
	outcome *lab.Outcome
	console string
	sent    [][]byte // frames
}

// powerOn boots the medium on a machine, in a mode.
func (b *bench) powerOn(h *hardware, mode string) *outing {
	b.Helper()
	b.last = lab.ReceiptDelivered
	if mode == "private" {
		b.last = lab.ReceiptShown
	}
	b.choose(mode)
	capture := filepath.Join(b.run, "capture.pcap")
	outcome, console := b.boot(lab.BootOptions{
		Vars: h.vars, Extra: h.extra, Nets: []vm.Net{{Kind: vm.NetUser, MAC: h.mac, Capture: capture}},
	})
	b.verified(outcome, console)
	sent, err := framesSent(capture)
	check(b.T, err)
	if len(sent) < 100 {
		b.Errorf("%s on %s: %d frames were captured, which cannot be all", mode, h.name, len(sent))
	}
	return &outing{outcome, console, sent}
}

// choose makes the medium boot in a mode by itself, as a person chooses from its
// menu: all but the cache of one that was made so takes the place of its own.
func (b *bench) choose(mode string) {
	b.Helper()
	medium, cache := b.image, b.cache
	path := filepath.Join(b.run, mode+".img")
	if _, err := os.Stat(path); err != nil {
		b.medium(lab.ImageOptions{Out: path, Mode: mode})
	}
	b.image, b.cache = medium, cache
	from, err := os.ReadFile(path)
	check(b.T, err)
	to, err := os.OpenFile(medium, os.O_WRONLY, 0)
	check(b.T, err)
	defer to.Close()
	for _, part := range [][2]int64{{0, cache.Offset}, {cache.Offset + cache.Size, int64(len(from))}} {
		_, err = to.WriteAt(from[part[0]:part[1]], part[0])
		check(b.T, err)
	}
}

// state is all that a machine and its medium remember when it is off.
type state struct {
	medium, disk []byte
	vars         map[string]vm.Variable
}

func (b *bench) state(h *hardware) state {
	b.Helper()
	b.choose("private") // which the boot will do again
	vars, err := vm.ReadVariables(h.vars)
	check(b.T, err)
	return state{digest(b.T, b.image), digest(b.T, h.disk), vars}
}

// unchanged asserts that a machine remembers what it did before, and no more.
func (b *bench) unchanged(h *hardware, before state) {
	b.Helper()
	if !bytes.Equal(before.medium, digest(b.T, b.image)) {
		b.Error("private mode has written to the medium")
	}
	if !bytes.Equal(before.disk, digest(b.T, h.disk)) {
		b.Error("private mode has written to the other disk")
	}
	now, err := vm.ReadVariables(h.vars)
	check(b.T, err)
	if before.vars[monotonic] == now[monotonic] {
		b.Error("the firmware has not counted this start: these are not its variables")
	}
	for name := range mergedKeys(before.vars, now) {
		if name != monotonic && before.vars[name] != now[name] {
			b.Errorf("firmware variable %s was %q and is %q", name, before.vars[name].Data, now[name].Data)
		}
	}
}

func mergedKeys(a, b map[string]vm.Variable) map[string]vm.Variable {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

func (b *bench) received() int {
	b.Helper()
	got, err := b.provider.Received()
	check(b.T, err)
	return len(got)
}

// A tell is something by which a machine can be told from others.
type tell struct {
	what  string
	bytes []byte
}

// tellsOf is every way in which bytes are commonly written.
func tellsOf(what string, raw []byte) []tell {
	digits := hex.EncodeToString(raw)
	out := []tell{{what, raw}}
	for _, separator := range []string{"", ":", "-"} {
		var pairs []string
		for i := 0; i < len(digits); i += 2 {
			pairs = append(pairs, digits[i:i+2])
		}
		text := strings.Join(pairs, separator)
		out = append(out, tell{what, []byte(text)}, tell{what, []byte(strings.ToUpper(text))})
	}
	return out
}

func guidTells(t *testing.T, what, text string) []tell {
	t.Helper()
	raw, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	check(t, err)
	mixed := slices.Clone(raw) // as firmware stores them
	slices.Reverse(mixed[:4])
	slices.Reverse(mixed[4:6])
	slices.Reverse(mixed[6:8])
	return append(append(tellsOf(what, raw), tellsOf(what, mixed)...), tell{what, []byte(strings.ToLower(text))}, tell{what, []byte(strings.ToUpper(text))})
}

func identityTells(n *lab.NodeInfo) []tell {
	key, err := lab.ParseKey(n.Key)
	if err != nil {
		return nil
	}
	return append(tellsOf("key of the Internet node", key), tell{"peer id of the Internet node", []byte(n.PeerID)})
}

// tellIn are the tells that a frame holds.
func (h *hardware) tellIn(frame []byte) []string { return tellsIn(h.tells, frame) }

func tellsIn(tells []tell, frame []byte) (found []string) {
	for _, t := range tells {
		if bytes.Contains(frame, t.bytes) {
			found = append(found, t.what)
		}
	}
	return found
}

// tellsNothing asserts that no frame holds a tell.
func (b *outing) tellsNothing(t *testing.T, tells []tell) {
	t.Helper()
	for n, frame := range b.sent {
		if found := tellsIn(tells, frame); len(found) > 0 {
			t.Errorf("frame %d of a Private boot holds the %s: %x", n, found, frame[:min(len(frame), 400)])
			return // the others have it too, most likely
		}
	}
}

// differs asserts that two boots cannot be linked by what they say openly.
func (b *outing) differs(t *testing.T, other *outing) {
	t.Helper()
	if b.outcome.Node.PeerID == other.outcome.Node.PeerID {
		t.Errorf("two boots have the identity %s", b.outcome.Node.PeerID)
	}
	mine, theirs := senders(b.sent), senders(other.sent)
	for mac := range mine {
		if theirs[mac] {
			t.Errorf("two boots have the hardware address %x", mac)
		}
	}
}
