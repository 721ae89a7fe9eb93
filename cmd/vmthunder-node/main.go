// Command vmthunder-node is the agent of one host: it builds, serves and takes down
// volumes there as the control plane's documents say. It runs as root.
package main

import (
	"os"

	"github.com/vmthunder/vmthunder/cmd/internal/cli"
)

func main() { os.Exit(cli.Node(os.Args[1:])) }
