package cli

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/bmctl/bmctl/cli/config"
	"github.com/bmctl/bmctl/power"
)

// inventoryTarget is the BMC of a host with the login that the configuration
// names for it.
func (a *app) inventoryTarget(ctx context.Context, name string) (power.Target, error) {
	host, known := a.file.Hosts[name]
	if !known {
		return power.Target{}, fmt.Errorf("%s is not in the inventory", name)
	}

	target := power.Target{Name: name, Address: host.Address, Protocol: power.Protocol(host.Protocol), UUID: strings.ToLower(host.ID)}
	if target.Protocol == power.ProtocolRedfish {
		target.RedfishPort = host.Port
	} else {
		target.Port = host.Port
	}

	entry := cmp.Or(host.Credentials, config.DefaultCredentials)

	credential, known := a.file.Credentials[entry]
	if !known {
		return target, fmt.Errorf("%s: the configuration has no credentials %q", name, entry)
	}

	password, err := a.credentialPassword(ctx, credential, host.Address)
	if err != nil {
		return target, fmt.Errorf("%s: credentials %s: %w", name, entry, err)
	}

	target.Username, target.Password = credential.Username, password

	return target, nil
}

// checkPin holds a BMC's certificate against the one that the inventory names.
func (a *app) checkPin(target power.Target, certificate *x509.Certificate, _ error) error {
	pin := a.file.Hosts[target.Name].Pin
	if pin == "" {
		return nil
	}

	sum := sha256.Sum256(certificate.Raw)
	if got := "sha256:" + hex.EncodeToString(sum[:]); !strings.EqualFold(got, pin) {
		return fmt.Errorf("its certificate is %s, and the inventory says %s", got, pin)
	}

	return nil
}
