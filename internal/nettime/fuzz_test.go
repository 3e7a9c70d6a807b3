package nettime

import (
	"bytes"
	"testing"
	"time"

	"github.com/beevik/ntp"
)

// FuzzRecords: whatever a key exchange sends, what is taken from it is within
// bounds and can be used.
func FuzzRecords(f *testing.F) {
	f.Add(appendRecord(nil, recEnd|recCritical))
	f.Fuzz(func(t *testing.T, raw []byte) {
		g, err := readGrant(bytes.NewReader(raw))
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without words")
			}
			return
		}
		if !g.protocol || !g.aead || len(g.cookies) == 0 || len(g.cookies) > maxCookies || !isPort(g.port) || g.server != "" && !isHost(g.server) {
			t.Errorf("granted: %+v", g)
		}
		for _, c := range g.cookies {
			if len(c) == 0 || len(c) > maxRecord {
				t.Errorf("a cookie of %d bytes", len(c))
			}
		}
	})
}

// FuzzAuthenticator: no packet is taken for the server's but its own.
func FuzzAuthenticator(f *testing.F) {
	key, err := newAESSIV(bytes.Repeat([]byte{7}, sivKeySize))
	if err != nil {
		f.Fatal(err)
	}
	q := &question{session: &session{s2c: key}}
	genuine := appendField(append([]byte{4<<3 | 4}, make([]byte, headerLen-1)...), extUniqueID, q.id[:])
	genuine = appendAEAD(genuine, make([]byte, nonceLen), key.seal([]byte("cookie"), genuine, make([]byte, nonceLen)))
	if err := q.verify(genuine); err != nil {
		f.Fatal(err)
	}
	f.Add(genuine)
	d := &dialogue{question: q}
	if !d.belongs(genuine) {
		f.Fatal("the genuine answer does not belong to the question")
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if !d.belongs(raw) {
			return
		}
		q.refused(raw)
		if q.verify(raw) == nil && !bytes.HasPrefix(raw, genuine) && !bytes.Equal(covered(t, raw), covered(t, genuine)) {
			t.Errorf("taken for genuine: %x", raw)
		}
	})
}

// covered is what an authenticator is about, and the authenticator itself.
func covered(t *testing.T, p []byte) []byte {
	t.Helper()
	f, err := readFields(p)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Join([][]byte{f.covered, f.nonce, f.sealed}, []byte("|"))
}

// FuzzQuestion: what an extension field may do to our own packet: any cookie
// gives a question that its server can read.
func FuzzQuestion(f *testing.F) {
	key, err := newAESSIV(bytes.Repeat([]byte{9}, sivKeySize))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("cookie"))
	f.Fuzz(func(t *testing.T, cookie []byte) {
		if len(cookie) == 0 || len(cookie) > maxRecord {
			return
		}
		q, err := (&session{c2s: key, cookies: [][]byte{cookie}}).question()
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		b.Write(make([]byte, headerLen))
		if err := q.ProcessQuery(&b); err != nil {
			t.Fatal(err)
		}
		got, err := readFields(b.Bytes())
		if err != nil || !bytes.Equal(got.id, q.id[:]) || !bytes.Contains(got.covered, cookie) {
			t.Fatalf("%+v, %v", got, err)
		}
		if _, err := key.open(got.sealed, got.covered, got.nonce); err != nil {
			t.Error(err)
		}
	})
}

// FuzzMeasure: no response makes a reading that contradicts the clock here.
func FuzzMeasure(f *testing.F) {
	f.Add(int64(time.Hour), int64(time.Hour), int64(time.Millisecond))
	f.Fuzz(func(t *testing.T, offset, last, rtt int64) {
		if rtt < 0 || rtt > int64(time.Minute) {
			return
		}
		sent := origin.Add(time.Second)
		received := sent.Add(time.Duration(rtt))
		r := &ntp.Response{Stratum: 1, ClockOffset: time.Duration(offset), Time: received.Add(time.Duration(last))}
		r.ReferenceTime = r.Time
		got, err := measure(r, sent, received)
		if err != nil {
			return
		}
		if got.rtt > maxRTT || (got.ahead-time.Duration(last)).Abs() > got.rtt/2+slack {
			t.Errorf("offset %s from %s in %s", got.ahead, time.Duration(last), got.rtt)
		}
	})
}
