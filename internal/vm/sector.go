package vm

// greeting is what the probe's guest writes on its serial port.
const greeting = "phase-guest-runs"

// greetingSector is a boot sector for a PC with a legacy BIOS: it writes the
// greeting on the first serial port and resets the machine through the
// keyboard controller. Written by hand so that no assembler is needed.
func greetingSector() []byte {
	code := []byte{
		0xfa,       //        cli
		0x31, 0xc0, //        xor  ax, ax
		0x8e, 0xd8, //        mov  ds, ax
		0xfc,             //  cld
		0xbe, 0x24, 0x7c, //  mov  si, 0x7c00 + text
		0xac,       // next:  lodsb
		0x84, 0xc0, //        test al, al
		0x74, 0x11, //        jz   reset
		0x88, 0xc4, //        mov  ah, al
		0xba, 0xfd, 0x03, //  mov  dx, 0x3fd      line status
		0xec,       // busy:  in   al, dx
		0xa8, 0x20, //        test al, 0x20       transmitter empty?
		0x74, 0xfb, //        jz   busy
		0xb2, 0xf8, //        mov  dl, 0xf8       data
		0x88, 0xe0, //        mov  al, ah
		0xee,       //        out  dx, al
		0xeb, 0xea, //        jmp  next
		0xb0, 0xfe, // reset: mov  al, 0xfe
		0xe6, 0x64, //        out  0x64, al
		0xf4, // text - 1:    hlt
	}
	sector := make([]byte, 512)
	n := copy(sector, code)
	copy(sector[n:], greeting+"\r\n\x00")
	sector[510], sector[511] = 0x55, 0xaa
	return sector
}
