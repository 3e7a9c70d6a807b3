package secureboot

import (
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unicode/utf16"

	"github.com/phasebased/phase/internal/guid"
)

var le = binary.LittleEndian

// GUIDs of UEFI 2.10 (sections 3.3, 8.2.2 and 32.4.1) and of shim.
var (
	guidGlobal   = guid.GUID{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}
	guidDatabase = guid.GUID{0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f}
	guidShim     = guid.GUID{0x50, 0xab, 0x5d, 0x60, 0x46, 0xe0, 0x00, 0x43, 0xab, 0xb6, 0x3d, 0xd8, 0x10, 0xdd, 0x8b, 0x23}
	guidX509     = guid.GUID{0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72}
	guidPKCS7    = guid.GUID{0x9d, 0xd2, 0xaf, 0x4a, 0xdf, 0x68, 0xee, 0x49, 0x8a, 0xa9, 0x34, 0x7d, 0x37, 0x56, 0x65, 0xa7}
	// guidOwner stands in signature lists as who has enrolled a certificate. It was
	// made for this project and means nothing else.
	guidOwner = guid.GUID{0x70, 0x68, 0x61, 0x73, 0x65, 0x62, 0x4f, 0x42, 0x8f, 0x21, 0x5e, 0x0c, 0x7a, 0x94, 0xd3, 0x16}
)

// VariableName is the full name of a variable of Secure Boot, as efivarfs writes
// it: the name, a dash and the GUID of its vendor. Roles of keys are names too;
// RoleMOK is shim's list of enrolled keys.
func VariableName(role string) string {
	switch role {
	case RoleDB, "dbx":
		return role + "-" + guidDatabase.String()
	case RoleMOK:
		return "MokList-" + guidShim.String()
	case "MokListRT", "MokSBStateRT":
		return role + "-" + guidShim.String()
	}
	return role + "-" + guidGlobal.String()
}

const (
	listHeader = 28
	maxLists   = 1 << 20 // bytes of signature lists; firmware has less room
)

// SignatureList is the content of a variable that trusts these certificates: an
// EFI_SIGNATURE_LIST for each.
func SignatureList(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		size := uint32(len(guidOwner) + len(c.Raw))
		out = append(out, guidX509[:]...)
		out = le.AppendUint32(out, listHeader+size)
		out = le.AppendUint32(out, 0)
		out = le.AppendUint32(out, size)
		out = append(out, guidOwner[:]...)
		out = append(out, c.Raw...)
	}
	return out
}

// ErrList says that bytes are no signature lists.
var ErrList = errors.New("not a list of signatures as firmware keeps them")

// ParseSignatureList returns the certificates in the content of db, KEK, PK,
// MokList or MokListRT. Entries of other kinds, such as hashes, are counted; so is
// a certificate that cannot be read, as firmware may hold one.
func ParseSignatureList(data []byte) (certs []*x509.Certificate, others int, err error) {
	if len(data) > maxLists {
		return nil, 0, fmt.Errorf("%w: more than %d bytes", ErrList, maxLists)
	}
	for len(data) > 0 {
		if len(data) < listHeader {
			return nil, 0, fmt.Errorf("%w: cut short", ErrList)
		}
		total, header, each := int64(le.Uint32(data[16:])), int64(le.Uint32(data[20:])), int64(le.Uint32(data[24:]))
		body := total - listHeader - header
		if total > int64(len(data)) || body < 0 || each <= int64(len(guidOwner)) || body%each != 0 {
			return nil, 0, fmt.Errorf("%w: its sizes do not fit", ErrList)
		}
		x509List := guid.GUID(data[:16]) == guidX509
		for entry := data[listHeader+header : total]; len(entry) > 0; entry = entry[each:] {
			c, err := x509.ParseCertificate(entry[len(guidOwner):each])
			if !x509List || err != nil {
				others++
				continue
			}
			certs = append(certs, c)
		}
		data = data[total:]
	}
	return certs, others, nil
}

// Attributes of the variables of Secure Boot (UEFI 2.10, section 8.2).
const (
	NonVolatile       = 0x01
	BootServices      = 0x02
	Runtime           = 0x04
	TimeAuthenticated = 0x20
)

// maxName bounds a variable's name, in bytes of ASCII.
const maxName = 64

// SignedVariable returns content as firmware takes it for a variable of one of the
// owner's roles (PK, KEK, db): an EFI_VARIABLE_AUTHENTICATION_2 with a signature by
// key, then the content. The firmware refuses times that are not later than that
// of the variable it has.
func SignedVariable(role string, content []byte, at time.Time, key *Key) ([]byte, error) {
	full := VariableName(role)
	if len(role) == 0 || len(role) > maxName || len(content) > maxLists {
		return nil, fmt.Errorf("secureboot: variable %q cannot have %d bytes", role, len(content))
	}
	vendor := guidGlobal
	if full == role+"-"+guidDatabase.String() {
		vendor = guidDatabase
	}
	stamp := EFITime(at)
	var message []byte
	for _, u := range utf16.Encode([]rune(role)) {
		message = le.AppendUint16(message, u)
	}
	message = append(message, vendor[:]...)
	message = le.AppendUint32(message, NonVolatile|BootServices|Runtime|TimeAuthenticated)
	message = append(message, stamp[:]...)
	message = append(message, content...)
	signature, err := key.signData(oidData, nil, message)
	if err != nil {
		return nil, err
	}
	const winCertificate, efiGUID, revision = 8 + 16, 0x0ef1, 0x0200
	out := append([]byte(nil), stamp[:]...)
	out = le.AppendUint32(out, uint32(winCertificate+len(signature)))
	out = le.AppendUint16(out, revision)
	out = le.AppendUint16(out, efiGUID)
	out = append(out, guidPKCS7[:]...)
	out = append(out, signature...)
	return append(out, content...), nil
}

// EFITime is an EFI_TIME in UTC, of whole seconds, as authenticated variables
// have it.
func EFITime(t time.Time) (b [16]byte) {
	t = t.UTC()
	le.PutUint16(b[:], uint16(t.Year()))
	b[2], b[3], b[4], b[5], b[6] = byte(t.Month()), byte(t.Day()), byte(t.Hour()), byte(t.Minute()), byte(t.Second())
	return b
}
