// Command vmthunder-bench measures the product in a laboratory on this machine, prints a
// table and writes bench.json and bench.md.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/vmthunder/vmthunder/devstack/bench"
	"github.com/vmthunder/vmthunder/devstack/bench/disk"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) == 2 && os.Args[1] == disk.Arg { // started by a case, in a node of its laboratory
		return disk.Serve(os.Stdin, os.Stdout)
	}
	runs := flag.Int("runs", 5, "runs of each figure")
	dir := flag.String("o", "bench", "`directory` for bench.json and bench.md")
	flag.Usage = func() {
		fmt.Fprintf(flag.CommandLine.Output(), "usage: vmthunder-bench [-runs N] [-o DIR] [CASE ...]\n\ncases:\n")
		for _, c := range bench.Cases {
			fmt.Fprintf(flag.CommandLine.Output(), "  %-10s %s\n", c.Name, c.Title)
		}
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	start := time.Now()
	report, failed := bench.Run(ctx, bench.Options{Runs: *runs, Cases: flag.Args(), Progress: func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "%7.1f s  %s\n", time.Since(start).Seconds(), fmt.Sprintf(format, args...))
	}})
	if report == nil {
		return failed
	}
	if err := report.WriteTable(os.Stdout); err != nil {
		return err
	}
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		return err
	}
	if err := report.WriteJSON(filepath.Join(*dir, "bench.json")); err != nil {
		return err
	}
	var md strings.Builder
	if err := report.WriteMarkdown(&md); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(*dir, "bench.md"), []byte(md.String()), 0o644); err != nil {
		return err
	}
	if n := report.Missed(); n > 0 {
		fmt.Printf("\n%d goals missed.\n", n)
	}
	return failed
}
