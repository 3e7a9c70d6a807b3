package nettime

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"
)

// chain is what a server showed to prove its name. Its certificates are
// verified in full twice: at the handshake, at a moment of their own life, and
// at the time that the server then gives, before that time counts.
type chain struct {
	name  string // that we asked for: a host name or an address
	roots *x509.CertPool
	floor time.Time
	now   time.Time // what Query.Now said

	certs []*x509.Certificate // the server's own first; nil until shown
}

// config is for a handshake that ends unless the chain verifies. The check
// that crypto/tls makes is left out, because it judges dates by one clock.
func (c *chain) config() *tls.Config {
	return &tls.Config{
		ServerName:         c.name,
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{alpn},
		InsecureSkipVerify: true, // show verifies in its place
		VerifyConnection:   c.show,
	}
}

// show takes the certificates of a handshake. It fails unless they verify at a
// moment of the server certificate's life that may still be now, and keeps them
// only if they do.
func (c *chain) show(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return errNoCertificate
	}
	shown := *c
	shown.certs = state.PeerCertificates
	var first error
	for _, at := range shown.moments() {
		err := shown.verify(at)
		if err == nil {
			c.certs = shown.certs
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// moments are when the chain may have to hold: the moment of the server
// certificate's life that is nearest to our clock, and then both ends of it,
// for an authority's certificate that does not hold all the while. Nothing
// before the floor is among them; what ended before that fails there.
func (c *chain) moments() []time.Time {
	first, last := c.certs[0].NotBefore, c.certs[0].NotAfter
	if first.Before(c.floor) {
		first = c.floor
	}
	if last.Before(first) {
		return []time.Time{first}
	}
	nearest := c.now
	switch {
	case nearest.Before(first):
		nearest = first
	case nearest.After(last):
		nearest = last
	}
	return slices.Compact([]time.Time{nearest, first, last})
}

// holds reports whether the server may be believed that it is now that time: it
// is not before the floor, and a chain from a root to the server's name holds
// at that time, each of its certificates.
func (c *chain) holds(at time.Time) error {
	says := func(err error) error {
		return fmt.Errorf("%w (%s): %w", ErrDates, at.UTC().Format(time.RFC3339), err)
	}
	if at.Before(c.floor) {
		return says(fmt.Errorf("that was before %s, which has passed", c.floor.UTC().Format(time.RFC3339)))
	}
	if err := c.verify(at); err != nil {
		return says(err)
	}
	return nil
}

var errNoCertificate = errors.New("the server showed no certificate")

// verify is what crypto/tls does with a server's certificates.
func (c *chain) verify(at time.Time) error {
	switch {
	case len(c.certs) == 0:
		return errNoCertificate
	case c.name == "": // to crypto/x509 it is any
		return errors.New("no name to compare the certificate with")
	}
	between := x509.NewCertPool()
	for _, cert := range c.certs[1:] {
		between.AddCert(cert)
	}
	_, err := c.certs[0].Verify(x509.VerifyOptions{
		DNSName: c.name, Roots: c.roots, Intermediates: between, CurrentTime: at,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}
