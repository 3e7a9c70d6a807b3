package p2p

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// PeerID is the ID, "12D3Koo…", of the node that holds the private half of pub.
func PeerID(pub ed25519.PublicKey) (string, error) {
	if len(pub) != ed25519.PublicKeySize {
		return "", fmt.Errorf("p2p: public key of %d bytes, want %d", len(pub), ed25519.PublicKeySize)
	}
	key, err := crypto.UnmarshalEd25519PublicKey(pub)
	if err != nil {
		return "", fmt.Errorf("p2p: public key: %w", err)
	}
	id, err := peer.IDFromPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("p2p: public key: %w", err)
	}
	return id.String(), nil
}

// identity turns key, or a fresh one if it is nil, into libp2p's form.
func identity(key ed25519.PrivateKey) (crypto.PrivKey, peer.ID, error) {
	if key == nil {
		var err error
		if _, key, err = ed25519.GenerateKey(rand.Reader); err != nil {
			return nil, "", fmt.Errorf("p2p: make identity: %w", err)
		}
	}
	if len(key) != ed25519.PrivateKeySize {
		return nil, "", fmt.Errorf("p2p: private key of %d bytes, want %d", len(key), ed25519.PrivateKeySize)
	}
	sk, err := crypto.UnmarshalEd25519PrivateKey(key)
	if err != nil {
		return nil, "", fmt.Errorf("p2p: private key: %w", err)
	}
	id, err := peer.IDFromPrivateKey(sk)
	if err != nil {
		return nil, "", fmt.Errorf("p2p: private key: %w", err)
	}
	return sk, id, nil
}
