package kexec

import (
	"errors"
	"fmt"
	"regexp"
	"syscall"
	"testing"

	"github.com/phasebased/phase/internal/failure"
)

// is reports whether err is an *Error of that kind.
func is(err error, k kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == failure.Kind(k)
}

func TestCodes(t *testing.T) {
	form := regexp.MustCompile(`^KEXEC-0[34][0-9]$`)
	seen := make(map[string]bool)
	check := func(code string) {
		if !form.MatchString(code) || seen[code] {
			t.Errorf("code %s", code)
		}
		seen[code] = true
	}
	for _, m := range meanings {
		check(m.code)
	}
	for _, k := range []kind{kindImage, kindMachine, kindCmdline, kindPlace, kindMap, kindTree, kindParams, kindFile, kindArch, kindOther} {
		check(k.Code)
	}
}

func TestExplain(t *testing.T) {
	err := explain("load it", fmt.Errorf("wrapped: %w", syscall.EBUSY))
	if err.Code() != "KEXEC-034" || err.Hint() == "" || !errors.Is(err, syscall.EBUSY) ||
		err.Error() != "load it: another kernel is being loaded, or a processor cannot be stopped (wrapped: device or resource busy)" {
		t.Errorf("%v, %s", err, err.Code())
	}
	if err := explain("load it", syscall.EIO); !is(err, kindOther) || !errors.Is(err, syscall.EIO) {
		t.Errorf("%v", err)
	}
	if err := kindPlace.error("a", nil, "b %d", 1); err.Error() != "a: b 1" || err.Unwrap() != nil {
		t.Errorf("%v", err)
	}
}
