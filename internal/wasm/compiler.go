package wasm

import (
	"context"
	"errors"
)

// OpenCompiler gives the compiling engine as a used jail has it: modules that were
// compiled for one guest are kept for the next. Its guests run one after the other, and
// in this process, so that they must be ours; close ends it. There is an error where there is no compiler.
func OpenCompiler(ctx context.Context) (engine Engine, close func(), err error) {
	if !compilerSupported() {
		return nil, nil, errors.New("the engine has no compiler for this processor")
	}
	shop, err := openWorkshop(ctx, true)
	if err != nil {
		return nil, nil, err
	}
	return wazeroEngine{compiler: true, shop: shop}, func() { shop.close(ctx) }, nil
}
