// Package omnisim is an embedded stand-in for Sidero Omni: the COSI state over
// gRPC with Omni's access rules, the part of Omni's own controllers that an
// infrastructure provider can see, SideroLink's Provision call (without
// WireGuard), and the user's side as Go methods.
//
// The client of github.com/siderolabs/omni/client talks to it unchanged:
//
//	client.New(sim.Endpoint(), client.WithServiceAccount(sim.ProviderKey()),
//		client.WithOmniClientOptions(omni.WithProviderID("bare-metal")))
//
// Every call must be signed by one of the accounts that the server knows. State
// lives in a bbolt file and survives a restart, except for the namespaces that
// Omni keeps in memory (ProviderHealthStatus among them).
//
// It is meant for tests and for the lab, not for machines that matter.
package omnisim
