// Command vmthunder-api is the control plane: the Block Storage API v3, the message
// bus, the scheduler and its jobs. Any number of replicas may run.
package main

import (
	"os"

	"github.com/vmthunder/vmthunder/cmd/internal/cli"
)

func main() { os.Exit(cli.API(os.Args[1:])) }
