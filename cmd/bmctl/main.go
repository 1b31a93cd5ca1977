// Command bmctl runs bare metal under Sidero Omni and Talos Linux.
package main

import (
	"os"

	"github.com/bmctl/bmctl/cli"
)

func main() {
	os.Exit(cli.Main(cli.Arguments(os.Args), os.Stdin, os.Stdout, os.Stderr, os.Environ()))
}
