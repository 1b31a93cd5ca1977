package cli

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/bmctl/bmctl/power"
)

// inventoryTarget is the BMC of a host with the login that the environment or the
// configuration names for it. Nobody is asked.
func (a *app) inventoryTarget(ctx context.Context, name string) (power.Target, error) {
	host, known := a.file.Hosts[name]
	if !known {
		return power.Target{}, fmt.Errorf("%s is not in the inventory", name)
	}

	bmc := resolver{file: a.file}.ofHost(name, host, 0)
	login := logins{a: a, found: map[string]power.Secret{}}
	err := login.fill(ctx, &bmc)

	return bmc.Target, err
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
