// Package operator does on Omni what a person may do there about bare-metal
// machines: accept, reject, label, cordon, reboot, power off and on, remove.
//
// A person is an omniconfig context, as omnictl uses it, or a service account
// with the role Operator or higher. The provider's own key may not do any of it.
package operator

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/url"
	"time"

	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/go-api-signature/pkg/client/interceptor"
	pgpclient "github.com/siderolabs/go-api-signature/pkg/pgp/client"
	"github.com/siderolabs/go-api-signature/pkg/serviceaccount"
	"github.com/siderolabs/omni/client/pkg/access"
	"github.com/siderolabs/omni/client/pkg/client/omni"
	"github.com/siderolabs/omni/client/pkg/omni/resources/system"
	omniconfig "github.com/siderolabs/omni/client/pkg/omnictl/config"
	talosconfig "github.com/siderolabs/talos/pkg/machinery/client/config"
	"google.golang.org/grpc"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/omnidial"
)

// DefaultTimeout limits a call whose context has no deadline.
const DefaultTimeout = 15 * time.Second

// loginTimeout is how long a person has to log in with the browser that Omni's
// client opens when the key of an omniconfig context has expired.
const loginTimeout = 5 * time.Minute

// clientName is what Omni's log of calls has.
const clientName = "bmctl"

// Config says which Omni, and as whom.
type Config struct {
	// Endpoint is Omni's URL (https://omni.example.com). With a service account
	// it is required; otherwise it comes from the omniconfig.
	Endpoint string
	// ServiceAccountKey is the value of OMNI_SERVICE_ACCOUNT_KEY. If it is empty,
	// the omniconfig is used.
	ServiceAccountKey power.Secret
	// File is the omniconfig; empty is omnictl's default ($OMNICONFIG and so on).
	File string
	// Context names the context in the omniconfig; empty is the current one.
	Context string
	// KeysDir holds the PGP keys of people; empty is omnictl's default.
	KeysDir string
	// ProviderID restricts Machines to those of one provider; empty is all.
	ProviderID string
	// Roots are the authorities that are trusted; nil is the system's.
	Roots *x509.CertPool
	// InsecureSkipTLSVerify accepts any certificate.
	InsecureSkipTLSVerify bool
	// Timeout limits each call whose context has no deadline of its own; zero is
	// DefaultTimeout.
	Timeout time.Duration
}

// Client is a person's access to Omni. Its methods are safe for concurrent use;
// each of their errors is an *Error with one kind.
type Client struct {
	omni    *grpc.ClientConn
	state   state.State
	cfg     Config
	version string
	// provider: the key is a provider's own.
	provider bool
}

// Connect connects to Omni and makes sure that it answers and knows the caller.
//
// With an omniconfig whose key has expired, Omni's client opens a browser and
// waits for the login, as omnictl does; the call then lasts up to five minutes.
// Note that Omni's client prefers a service account key in the environment
// (OMNI_SERVICE_ACCOUNT_KEY) over an omniconfig context.
//
// Concurrent calls with an omniconfig are not safe: omnictl's package keeps the
// file that it read last in a variable.
func Connect(ctx context.Context, cfg Config) (*Client, error) {
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}

	c := &Client{cfg: cfg}

	identity, err := c.identity()
	if err != nil {
		return nil, &Error{Act: "connect to Omni", Kind: ErrConfig, Cause: err}
	}

	if err := checkEndpoint(c.cfg.Endpoint); err != nil {
		return nil, &Error{Act: "connect to Omni", Kind: ErrConfig, Cause: err}
	}

	if c.omni, err = omnidial.Dial(omnidial.Config{
		Endpoint: c.cfg.Endpoint, Roots: cfg.Roots, InsecureSkipTLSVerify: cfg.InsecureSkipTLSVerify, Identity: identity,
	}); err != nil {
		return nil, &Error{Act: "connect to Omni", Kind: ErrConfig, Cause: err}
	}

	c.state = omni.NewClient(c.omni).State()

	if err := c.greet(ctx); err != nil {
		_ = c.omni.Close() // the first failure is the one to report

		return nil, err
	}

	return c, nil
}

// identity completes the endpoint and says who signs the calls.
func (c *Client) identity() (interceptor.Options, error) {
	if !c.cfg.ServiceAccountKey.IsZero() {
		account, err := serviceaccount.Decode(c.cfg.ServiceAccountKey.Reveal())
		if err != nil {
			return interceptor.Options{}, fmt.Errorf("the service account key is malformed: %w", err)
		}

		c.provider = access.ParseServiceAccountFromName(account.Name).IsInfraProvider

		if sa, ok := access.ParseServiceAccountFromFullID(account.Name); ok {
			c.provider = sa.IsInfraProvider
		}

		return interceptor.Options{ClientName: clientName, ServiceAccountBase64: c.cfg.ServiceAccountKey.Reveal()}, nil
	}

	return c.person()
}

func (c *Client) person() (interceptor.Options, error) {
	conf, err := omniconfig.Init(c.cfg.File, false)
	if err != nil {
		return interceptor.Options{}, fmt.Errorf("read the omniconfig: %w", err)
	}

	name := c.cfg.Context
	if name == "" {
		name = conf.Context
	}

	chosen, err := conf.GetContext(name)
	if err != nil {
		return interceptor.Options{}, fmt.Errorf("the omniconfig %s: %w", conf.Path, err)
	}

	identity := chosen.Auth.SideroV1.Identity
	if identity == "" {
		return interceptor.Options{}, fmt.Errorf("the omniconfig %s names no identity in context %q", conf.Path, name)
	}

	if c.cfg.Endpoint == "" {
		c.cfg.Endpoint = chosen.URL
	}

	return interceptor.Options{ClientName: clientName, ContextName: name, Identity: identity, UserKeyProvider: c.keys()}, nil
}

// keys finds people's keys where omnictl leaves them.
func (c *Client) keys() *pgpclient.KeyProvider {
	if c.cfg.KeysDir != "" {
		return pgpclient.NewKeyProviderWithFallback("omni/keys", c.cfg.KeysDir, "", true)
	}

	dir, err := talosconfig.GetTalosDirectory()
	if err != nil {
		return pgpclient.NewKeyProvider("omni/keys") // the XDG directory alone
	}

	return pgpclient.NewKeyProviderWithFallback("omni/keys", dir, "keys", true)
}

func checkEndpoint(endpoint string) error {
	if endpoint == "" {
		return fmt.Errorf("the endpoint of Omni is missing")
	}

	parsed, err := url.Parse(endpoint)
	if err != nil {
		return fmt.Errorf("the endpoint of Omni: %w", err)
	}

	switch parsed.Scheme {
	case "http", "https", "grpc":
	default:
		return fmt.Errorf("the endpoint of Omni %q is not an http:// or https:// URL", endpoint)
	}

	if parsed.Host == "" {
		return fmt.Errorf("the endpoint of Omni %q names no host", endpoint)
	}

	return nil
}

// greet asks Omni for its version, which everybody may do.
func (c *Client) greet(ctx context.Context) error {
	timeout := c.cfg.Timeout
	if c.cfg.ServiceAccountKey.IsZero() {
		timeout = loginTimeout
	}

	ctx, cancel := limit(ctx, timeout)
	defer cancel()

	version, err := safe.StateGetByID[*system.SysVersion](ctx, c.state, system.SysVersionID)
	if state.IsNotFoundError(err) {
		return nil // it answers and knows us, but is too old to say its version
	}

	if err != nil {
		return c.fail(ctx, "connect to Omni at "+c.cfg.Endpoint, "", err)
	}

	c.version = version.TypedSpec().Value.BackendVersion

	return nil
}

// Version is Omni's release, such as "v1.9.3"; empty if it did not say.
func (c *Client) Version() string { return c.version }

// Endpoint is the URL that the client talks to.
func (c *Client) Endpoint() string { return c.cfg.Endpoint }

// Close closes the connection.
func (c *Client) Close() error { return c.omni.Close() }

// limit gives the context a deadline unless it has one.
func limit(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}

	return context.WithTimeout(ctx, timeout)
}
