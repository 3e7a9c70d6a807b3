package failure

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestError(t *testing.T) {
	e := &Error{Step: "load it", Text: "there is no room", Kind: Kind{"X-001", "Make room."}}
	if e.Error() != "load it: there is no room" || e.Unwrap() != nil {
		t.Errorf("%v", e)
	}
	e.Err = io.EOF
	if e.Error() != "load it: there is no room (EOF)" || !errors.Is(e, io.EOF) {
		t.Errorf("%v", e)
	}
	for _, err := range []error{e, fmt.Errorf("wrapped: %w", e), errors.Join(io.EOF, e)} {
		if Code(err) != "X-001" || Hint(err) != "Make room." {
			t.Errorf("%v: %q, %q", err, Code(err), Hint(err))
		}
	}
	for _, err := range []error{nil, io.EOF} {
		if Code(err) != "" || Hint(err) != "" {
			t.Errorf("%v: %q, %q", err, Code(err), Hint(err))
		}
	}
}
