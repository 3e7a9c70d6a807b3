package pid1

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/netup"
)

// NetworkConfig is the bring-up that a medium's configuration asks for.
func NetworkConfig(n bootcfg.Network, mode bootcfg.Mode) netup.Config {
	cfg := netup.Config{
		Off: n.Off, Timeout: n.Timeout, LinkLocal: n.LinkLocal, Private: mode == bootcfg.Private,
	}
	for _, i := range n.Interfaces {
		cfg.Interfaces = append(cfg.Interfaces, netup.Interface(i))
	}
	return cfg
}

// LoadModule loads a driver by its name, for what no device asks for.
func (s *System) LoadModule(name string) error {
	if s.Modules == nil {
		return errors.New("this system carries no drivers")
	}
	return s.Modules.Load(name)
}

// WriteNetwork writes the configuration for the next system: what a person set
// holds there too.
func WriteNetwork(n bootcfg.Network) []byte {
	data, err := json.Marshal(n)
	if err != nil {
		return nil // a Network always marshals; the next system goes by defaults
	}
	return data
}

// ReadNetwork reads what WriteNetwork wrote. Its size is bounded by the file it
// is a part of.
func ReadNetwork(data []byte) (n bootcfg.Network, err error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&n); err != nil {
		return n, fmt.Errorf("network configuration of the seed: %w", err)
	}
	return n, nil
}
