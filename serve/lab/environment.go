package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Variable is one variable of the lab's environment.
type Variable struct{ Name, Value string }

// Environment is what a command needs to work with the lab: Omni and the lab's
// operator, serve's socket, the inventory, and where serve listens in place of
// the well-known ports. PATH begins with the folder of this bmctl.
func (l *Lab) Environment(path string) []Variable {
	l.mu.Lock()
	ports := l.ports
	l.mu.Unlock()

	return []Variable{
		{"OMNI_ENDPOINT", l.Omni().Endpoint()},
		{"OMNI_SERVICE_ACCOUNT_KEY", l.Omni().OperatorKey()},
		{"BMCTL_SOCKET", l.SocketPath()},
		{"BMCTL_CONFIG", l.configPath()},
		{"BMCTL_LAB_DHCP", ports.DHCP.String()},
		{"BMCTL_LAB_PROXYDHCP", ports.ProxyDHCP.String()},
		{"BMCTL_LAB_TFTP", ports.TFTP.String()},
		{"BMCTL_LAB_HTTP", ports.HTTP.String()},
		{"PATH", filepath.Dir(l.cfg.Exe) + string(os.PathListSeparator) + path},
	}
}

func (l *Lab) configPath() string { return filepath.Join(l.cfg.Dir, "config.yaml") }

// writeFiles writes the inventory and the BMCs' password.
func (l *Lab) writeFiles() error {
	password := filepath.Join(l.cfg.Dir, "bmc-password")
	if err := os.WriteFile(password, []byte(l.bmcPassword.Reveal()+"\n"), 0o600); err != nil {
		return err
	}

	var b strings.Builder

	b.WriteString("hosts:\n")

	for _, m := range l.machines {
		t := m.target()
		p := t.Port

		if m.Redfish {
			p = t.RedfishPort
		}

		fmt.Fprintf(&b, "  %s: {address: %s, protocol: %s, port: %d, id: %s, credentials: lab, labels: {rack: r1}}\n",
			m.Name, t.Address, t.Protocol, p, m.UUID)
	}

	fmt.Fprintf(&b, "groups: {lab: \"%s\"}\n", strings.Join(names(l.machines), ","))
	fmt.Fprintf(&b, "credentials:\n  lab: {username: %s, password-file: %q}\n", bmcUser, password)

	return os.WriteFile(l.configPath(), []byte(b.String()), 0o600)
}

func names(machines []*Machine) []string {
	all := make([]string, 0, len(machines))
	for _, m := range machines {
		all = append(all, m.Name)
	}

	return all
}
