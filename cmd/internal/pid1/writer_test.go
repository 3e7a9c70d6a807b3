package pid1

import (
	"bytes"
	"testing"
)

func TestLateWriterKeepsWhatCameEarly(t *testing.T) {
	w := &lateWriter{}
	w.Write([]byte("early "))
	var out bytes.Buffer
	w.attach(&out)
	w.Write([]byte("late"))
	if out.String() != "early late" {
		t.Errorf("got %q", out.String())
	}
}

func TestLateWriterIsBounded(t *testing.T) {
	w := &lateWriter{}
	for range 100 {
		w.Write(make([]byte, 4096))
	}
	var out bytes.Buffer
	w.attach(&out)
	if out.Len() > maxEarly {
		t.Errorf("kept %d bytes", out.Len())
	}
	none := &lateWriter{}
	none.attach(nil)
	if n, err := none.Write([]byte("x")); n != 1 || err != nil {
		t.Errorf("without an output: %d, %v", n, err)
	}
}
