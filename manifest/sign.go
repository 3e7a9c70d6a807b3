package manifest

import (
	"crypto/ed25519"
	"fmt"

	"github.com/phasebased/phase/internal/strictjson"
)

// SignManifest encodes m, signs it with every key and returns the manifest
// file. It refuses what a verifier would refuse for its content; whether the
// keys are those of a root's targets role is for the verifier to find out.
// Times are cut to whole seconds. The result depends on the arguments only.
func SignManifest(m Manifest, keys ...ed25519.PrivateKey) ([]byte, error) {
	payload, err := strictjson.MarshalCanonical(wireOf(m))
	if err != nil {
		return nil, fmt.Errorf("sign manifest: %w", err)
	}
	decoded, _, _, err := decodeManifest(payload)
	if err == nil {
		err = decoded.checkPolicy()
	}
	if err != nil {
		return nil, fmt.Errorf("sign manifest: %w", err)
	}
	return seal(kindManifest, payload, keys)
}

// SignPointer encodes and signs p with a timestamp key and returns the pointer
// file, with the same care as SignManifest. The file holds at most 2 KiB, which
// is what bounds the number of URLs in practice.
func SignPointer(p Pointer, key ed25519.PrivateKey) ([]byte, error) {
	payload, err := strictjson.MarshalCanonical(wirePointerOf(p))
	if err != nil {
		return nil, fmt.Errorf("sign pointer: %w", err)
	}
	decoded, _, _, err := decodePointer(payload)
	if err == nil {
		err = decoded.checkPolicy()
	}
	if err != nil {
		return nil, fmt.Errorf("sign pointer: %w", err)
	}
	return seal(kindPointer, payload, []ed25519.PrivateKey{key})
}
