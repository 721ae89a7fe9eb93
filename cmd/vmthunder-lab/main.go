// Command vmthunder-lab makes and drives the project's laboratory.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/vmthunder/vmthunder/devstack/lab"
	"github.com/vmthunder/vmthunder/devstack/lab/neutron"
	"github.com/vmthunder/vmthunder/devstack/lab/nodeinit"
)

func main() { os.Exit(run()) }

func run() int {
	if len(os.Args) > 1 {
		// Not part of the command line for people: how the laboratory starts itself.
		switch os.Args[1] {
		case lab.InitArg:
			return report(nodeinit.Main(context.Background()))
		case nodeinit.AgentArg:
			return report(nodeinit.RunAgent(context.Background()))
		case lab.ReaperArg:
			return report(lab.RunReaper(context.Background(), os.Args[2], os.Stdin))
		case lab.LoadArg:
			return report(lab.RunLoad(context.Background(), os.Args[2], os.Stdin, os.Stdout))
		case lab.NeutronArg:
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
			defer stop()
			return report(neutron.Serve(ctx, os.Args[2]))
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	return execute(ctx, os.Args[1:], os.Stdout, os.Stderr)
}

func report(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, "vmthunder-lab:", err)
		return 1
	}
	return 0
}
