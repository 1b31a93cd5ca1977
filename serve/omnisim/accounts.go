package omnisim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	pgpcrypto "github.com/ProtonMail/gopenpgp/v3/crypto"
	"github.com/siderolabs/go-api-signature/pkg/pgp"
	"github.com/siderolabs/go-api-signature/pkg/serviceaccount"
	"github.com/siderolabs/omni/client/pkg/access"
)

// keyLifetime is that of the service accounts which omnictl creates.
const keyLifetime = 365 * 24 * time.Hour

// Role is what an account may do.
type Role int

// The roles of users. A provider's account has none of them: its rights are
// those of its provider.
const (
	// RoleReader may read what users see.
	RoleReader Role = iota + 1
	// RoleOperator may also accept, label and remove machines and so on.
	RoleOperator
)

// account is someone who can sign calls.
type account struct {
	identity   string
	role       Role
	providerID string // set: the account of this provider, and role is none
	key        *pgp.Key
}

// accounts finds an account by the fingerprint of its key.
type accounts struct {
	mu            sync.Mutex
	byFingerprint map[string]*account
}

func (a *accounts) add(acc *account) {
	a.mu.Lock()
	defer a.mu.Unlock()

	a.byFingerprint[acc.key.Fingerprint()] = acc
}

func (a *accounts) find(fingerprint string) *account {
	a.mu.Lock()
	defer a.mu.Unlock()

	return a.byFingerprint[fingerprint]
}

// AddUser lets whoever holds the private part of the armored PGP key sign calls
// as identity (an e-mail address), in the given role. It is forgotten when the
// server is closed.
func (s *Server) AddUser(identity, armoredPublicKey string, role Role) error {
	parsed, err := pgpcrypto.NewKeyFromArmored(armoredPublicKey)
	if err != nil {
		return fmt.Errorf("omnisim: the public key of %s: %w", identity, err)
	}

	key, err := pgp.NewKey(parsed)
	if err != nil {
		return fmt.Errorf("omnisim: the public key of %s: %w", identity, err)
	}

	s.accounts.add(&account{identity: identity, role: role, key: key})

	return nil
}

// loadAccounts reads the two service accounts from the state directory, and
// makes those that are missing.
func (s *Server) loadAccounts() (err error) {
	s.accounts = &accounts{byFingerprint: map[string]*account{}}

	provider := access.InfraProviderServiceAccountPrefix + s.cfg.ProviderID
	if s.providerKey, err = s.loadAccount(provider, &account{providerID: s.cfg.ProviderID}); err != nil {
		return err
	}

	s.operatorKey, err = s.loadAccount("operator", &account{role: RoleOperator})

	return err
}

func (s *Server) loadAccount(name string, acc *account) (string, error) {
	encoded, err := loadOrMakeKey(filepath.Join(s.cfg.Dir, strings.ReplaceAll(name, ":", "-")+".key"), name)
	if err != nil {
		return "", fmt.Errorf("service account %s: %w", name, err)
	}

	decoded, err := serviceaccount.Decode(encoded)
	if err != nil {
		return "", fmt.Errorf("service account %s: %w", name, err)
	}

	acc.identity, acc.key = decoded.Name, decoded.Key
	s.accounts.add(acc)

	return encoded, nil
}

func loadOrMakeKey(path, name string) (string, error) {
	encoded, err := os.ReadFile(path)
	if err == nil {
		return strings.TrimSpace(string(encoded)), nil
	}

	if !errors.Is(err, os.ErrNotExist) {
		return "", err
	}

	key, err := pgp.GenerateKey(name, "", access.ParseServiceAccountFromName(name).FullID(), keyLifetime)
	if err != nil {
		return "", fmt.Errorf("generate a key: %w", err)
	}

	made, err := serviceaccount.Encode(name, key)
	if err != nil {
		return "", fmt.Errorf("encode the key: %w", err)
	}

	return made, os.WriteFile(path, []byte(made+"\n"), 0o600)
}
