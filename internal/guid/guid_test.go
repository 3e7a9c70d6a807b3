package guid

import "testing"

// esp is the type of EFI system partitions, as UEFI 2.10 gives both forms.
var esp = GUID{0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b}

func TestForms(t *testing.T) {
	const text = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
	if esp.String() != text || Must(text) != esp {
		t.Errorf("%s, %x", esp, Must(text))
	}
	if got, err := Parse("C12A7328-f81f-11D2-ba4b-00A0C93EC93B"); err != nil || got != esp {
		t.Errorf("%x, %v", got, err)
	}
	if b := esp.Ordered(); b[0] != 0xc1 || b[5] != 0x1f || b[7] != 0xd2 || b[8] != 0xba || b[15] != 0x3b {
		t.Errorf("ordered %x", b)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, bad := range []string{"", "c12a7328f81f11d2ba4b00a0c93ec93b", "c12a7328-f81f-11d2-ba4b-00a0c93ec93", "g12a7328-f81f-11d2-ba4b-00a0c93ec93b",
		"c12a7328-f81f-11d2-ba4b-00a0c93ec93b-", "c12a732-8f81f-11d2-ba4b-00a0c93ec93b", "{c12a7328-f81f-11d2-ba4b-00a0c93ec93b}"} {
		if g, err := Parse(bad); err == nil || g != (GUID{}) {
			t.Errorf("%q is %x", bad, g)
		}
	}
}

func TestOf(t *testing.T) {
	if got := Of([32]byte{0: 0xff, 6: 0xff, 8: 0xff, 15: 1, 16: 0xff}).String(); got != "ff000000-0000-8f00-bf00-000000000001" {
		t.Error(got)
	}
}
