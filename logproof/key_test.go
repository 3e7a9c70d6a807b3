package logproof

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
)

func noteHash(name string, material []byte) uint32 {
	sum := sha256.Sum256([]byte(name + "\n" + string(material)))
	return binary.BigEndian.Uint32(sum[:])
}

// TestKeyLikeNote: log keys are those of package note.
func TestKeyLikeNote(t *testing.T) {
	private := testKey("note")
	want, err := note.NewEd25519VerifierKey("log.example", private.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	k, err := ParseKey(want)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := note.NewVerifier(want)
	if err != nil {
		t.Fatal(err)
	}
	if k.String() != want || k.Name() != theirs.Name() || k.KeyHash() != theirs.KeyHash() || k.Type() != LogKey {
		t.Errorf("%s, %08x, want %s", k, k.KeyHash(), want)
	}
	message := []byte("text\n")
	sig := ed25519.Sign(private, message)
	if !k.Verify(message, sig) || k.Verify([]byte("other\n"), sig) || k.Verify(message, sig[:63]) || k.Verify(message, append(sig, 0)) {
		t.Error("verification")
	}
}

// TestPublishedKeys reads keys that others have published: the example of
// package note, and the log of TestPublishedCheckpoint.
func TestPublishedKeys(t *testing.T) {
	for _, vkey := range []string{
		"PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
		"transparency.dev-aw-ftlog-ci-3+3f689522+Aa1Eifq6rRC8qiK+bya07yV1fXyP156pEMsX7CFBC6gg",
	} {
		if k, err := ParseKey(vkey); err != nil || k.String() != vkey {
			t.Errorf("%s: %v", vkey, err)
		}
	}
}

// TestPublishedCheckpoint verifies a checkpoint of the Armored Witness firmware
// log with its cosignatures, made by other people's programs and printed in the
// README of github.com/transparency-dev/distributor; the keys are those of its
// folder config. That log signs under a name that is not its origin, so a
// policy, which demands that, has to refuse it.
func TestPublishedCheckpoint(t *testing.T) {
	const checkpoint = `transparency.dev/armored-witness/firmware_transparency/ci/3
59
kOFMkeamIdrYFLx5zbWFhflak6dlEEDOU++fxYEZMBw=

— transparency.dev-aw-ftlog-ci-3 P2iVIt3Jsaha3E2i0MHdKZ6fgYJTgXO86nUsxKPVq6uTwRSclTSh/ELnDGbNL+XDyD3EkWIdL2AGGNmbN7IN2rB/7gE=
— ArmoredWitness-weathered-rain CnjfIAAAAABnGRrHjQi7IZQqVea4YnU/ADsv844r1ezGjvubUy1MMJm4as9bRiT70xNWQ67RCA76LMy7SdX4qJNIzL3eSS1BGFWqCw==
— ArmoredWitness-floral-sky x88LbQAAAABnGRrDEq4Tfy7IIVPqkdXbcufUkCzRRbE3fABZ/jvtg5aFHVMuMR8cV6dVqECDBiH1zRxhNaCQOXSwNLSeJs+NzWt1BA==
`
	logKey, err := ParseKey("transparency.dev-aw-ftlog-ci-3+3f689522+Aa1Eifq6rRC8qiK+bya07yV1fXyP156pEMsX7CFBC6gg")
	if err != nil {
		t.Fatal(err)
	}
	rain := witnessOf(t, "ArmoredWitness-weathered-rain+ea3d386d+AWLblKp5JuiyrgRh6ev2nNJ5XAd+sc/mM2D2HW/b4d5S")
	sky := witnessOf(t, "ArmoredWitness-floral-sky+504ec40f+AekCmTmKTTnQMNqIigkj7PFnhogawSJD23PJ8M8qLYDm")
	opened, err := note.Open([]byte(checkpoint), note.VerifierList(logKey, rain, sky))
	if err != nil {
		t.Fatal(err)
	}
	if len(opened.Sigs) != 3 {
		t.Errorf("%d of 3 signatures were checked", len(opened.Sigs))
	}
	want := time.Date(2024, 10, 23, 15, 48, 23, 0, time.UTC)
	if got := cosignedAt(opened.Sigs[1]); got != want {
		t.Errorf("cosigned at %v, want %v", got, want)
	}
	c, err := ParseCheckpoint(opened.Text)
	if err != nil || c.Size != 59 || c.Text() != opened.Text {
		t.Errorf("%+v, %v", c, err)
	}
	policy := mustPolicy(t, "log "+logKey.String()+"\nwitness rain "+rain.String()+"\nquorum rain\n")
	if _, err := policy.open([]byte(checkpoint)); !errors.Is(err, ErrLogKey) {
		t.Errorf("under a policy: %v", err)
	}
}

// witnessOf turns a key published as a plain one into the witness's key.
func witnessOf(t *testing.T, vkey string) *Key {
	t.Helper()
	k, err := ParseKey(vkey)
	if err != nil {
		t.Fatal(err)
	}
	if k, err = NewKey(k.Name(), WitnessKey, k.public); err != nil {
		t.Fatal(err)
	}
	return k
}

// smallOrderPoints are all eight, canonical or not, with the sign of x cleared
// (Chalkias, Garillot, Nikolaenko, "Taming the many EdDSAs", table 1).
var smallOrderPoints = []string{
	"0100000000000000000000000000000000000000000000000000000000000000",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"0000000000000000000000000000000000000000000000000000000000000000",
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
}

func TestWeakKeys(t *testing.T) {
	refused := map[string]string{
		"f0" + strings.Repeat("ff", 30) + "7f": "not canonical",
		strings.Repeat("ff", 32):               "not canonical",
		"02" + strings.Repeat("00", 31):        "not a point",
		strings.Repeat("11", 31):               "31 bytes",
		"":                                     "0 bytes",
	}
	for i, point := range smallOrderPoints {
		why := "small order"
		if i >= 5 {
			why = "not canonical"
		}
		refused[point] = why
		raw, _ := hex.DecodeString(point)
		raw[31] |= 0x80
		refused[hex.EncodeToString(raw)] = why
	}
	for digits, why := range refused {
		raw, err := hex.DecodeString(digits)
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range []KeyType{LogKey, WitnessKey} {
			if _, err := NewKey("x", kind, raw); err == nil || !strings.Contains(err.Error(), why) {
				t.Errorf("%s: %v, want %q", digits, err, why)
			}
		}
	}
	for range 200 {
		public, _, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := NewKey("x", LogKey, public); err != nil {
			t.Errorf("%x: %v", public, err)
		}
	}
}

// TestWeakKeyWouldForge shows what the check is for: under the identity point
// one signature fits every checkpoint, and the standard library accepts it.
func TestWeakKeyWouldForge(t *testing.T) {
	identity := append([]byte{1}, make([]byte, 31)...)
	forged := append([]byte{1}, make([]byte, 63)...) // R = identity, S = 0
	if !ed25519.Verify(identity, []byte("anything"), forged) {
		t.Skip("the standard library refuses this key by itself")
	}
	if _, err := ParsePolicy([]byte("log " + vkey(testOrigin, LogKey, identity) + "\nquorum none\n")); !errors.Is(err, ErrPolicy) {
		t.Errorf("policy with the identity as key: %v", err)
	}
}

func TestNewKeyRefusals(t *testing.T) {
	public := testKey("x").Public().(ed25519.PublicKey)
	for _, name := range []string{"", "a b", "a+b", "a\nb", "a\tb", "a\u2003b", "a\xff", "a\x01"} {
		if _, err := NewKey(name, LogKey, public); err == nil {
			t.Errorf("name %q accepted", name)
		}
	}
	for _, kind := range []KeyType{0, 2, 5, 6, 255} {
		if _, err := NewKey("a", kind, public); err == nil {
			t.Errorf("type %d accepted", kind)
		}
	}
}

func TestZeroKey(t *testing.T) {
	for _, size := range []int{0, ed25519.SignatureSize, cosignatureSize} {
		if new(Key).Verify([]byte("text"), make([]byte, size)) {
			t.Errorf("the zero key verified a signature of %d bytes", size)
		}
	}
}

// TestKeyIsCopied: whoever lent the bytes may not change the key.
func TestKeyIsCopied(t *testing.T) {
	private := testKey("x")
	public := append(ed25519.PublicKey(nil), private.Public().(ed25519.PublicKey)...)
	k, err := NewKey("x", LogKey, public)
	if err != nil {
		t.Fatal(err)
	}
	clear(public)
	if !k.Verify([]byte("text"), ed25519.Sign(private, []byte("text"))) {
		t.Error("the key changed with the caller's bytes")
	}
}

func TestCosignMessage(t *testing.T) {
	text := "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
	want := "cosignature/v1\ntime 1679315147\n" + text // the example of C2SP tlog-cosignature
	if got := string(CosignMessage([]byte(text), 1679315147)); got != want {
		t.Errorf("%q", got)
	}
}
