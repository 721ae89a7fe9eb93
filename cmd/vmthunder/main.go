// Command vmthunder is the operator's command.
package main

import (
	"os"

	"github.com/vmthunder/vmthunder/cmd/internal/cli"
)

func main() { os.Exit(cli.Operator(os.Args[1:])) }
