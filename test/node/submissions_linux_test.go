package node_test

import (
	"errors"
	"syscall"
)

func isAgain(err error) bool { return errors.Is(err, syscall.EAGAIN) }
