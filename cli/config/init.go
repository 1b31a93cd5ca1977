package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Template is what Init writes: every section, explained and commented out.
const Template = `# bmctl's configuration. Keys that are not known are errors: bmctl config check
#
# Remove the number signs of what you need.

# hosts:
#   r1n01: {address: 10.0.3.1, protocol: auto, labels: {rack: r1}}
#   r1n02: {address: 10.0.3.2, protocol: ipmi, port: 623, id: 9c41e0aa-7a1e-4b02-9f3c-1b5d3c9be6f1}
# groups:
#   rack1: "r1n[01-02]"
# credentials:
#   default: {username: admin, password-file: /etc/bmctl/bmc-password}
#   vault: {username: admin, password-command: [pass, show, bmc/%h]}
# machines:
#   - {match: {serial: A1234567}, boot-from-disk-method: ipxe-sanboot}
# serve:
#   id: bare-metal
#   omni-api-endpoint: https://omni.example.com
`

// Init writes the template to path, readable by its owner alone, and makes the
// directory. A file that exists is left as it is: the error wraps os.ErrExist.
func Init(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}

	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}

	_, err = file.WriteString(Template)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}

	return nil
}
