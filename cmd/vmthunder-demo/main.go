// Command vmthunder-demo shows the whole line once, in a laboratory on this machine.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/vmthunder/vmthunder/devstack/demo"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	start := time.Now()
	err := demo.Run(ctx, demo.Options{
		Compute: 3, Volumes: 100, Degree: 2, Image: "ubuntu12", Keep: os.Getenv("KEEP") == "1", Out: os.Stdout,
		Progress: func(format string, args ...any) {
			fmt.Fprintf(os.Stderr, "%6.1f s  %s\n", time.Since(start).Seconds(), fmt.Sprintf(format, args...))
		},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}
