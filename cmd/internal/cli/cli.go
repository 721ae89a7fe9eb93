// Package cli is the command line of the three programs.
package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/vmthunder/vmthunder/cmd/internal/config"
	"github.com/vmthunder/vmthunder/cmd/internal/wire"
)

// DefaultConfig is read if no --config-file is given.
const DefaultConfig = "/etc/vmthunder/vmthunder.conf"

// Exit statuses.
const (
	exitOK    = 0
	exitError = 1 // it failed while working
	exitUsage = 2 // command line or configuration
)

// usageError is an error of the command line or the configuration.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// statusError has an exit status of its own; one without an error has said what it has to say.
type statusError struct {
	status int
	err    error
}

func (e statusError) Unwrap() error { return e.err }

func (e statusError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

// execute runs a root command and turns its error into an exit status.
func execute(root *cobra.Command, args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	root.SilenceErrors, root.SilenceUsage = true, true
	root.Version = wire.Version
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetArgs(args)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; %s --help lists what there is", err, c.CommandPath())}
	})
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	own := statusError{}
	if errors.As(err, &own) && own.err == nil {
		return own.status
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", root.Name(), err)
	if own.status != 0 {
		return own.status
	}
	if errors.As(err, new(usageError)) || errors.As(err, new(wire.ConfigError)) {
		return exitUsage
	}
	return exitError
}

// configFlag adds --config-file and returns what loads it.
func configFlag(root *cobra.Command) func() (*config.Config, error) {
	files := root.PersistentFlags().StringArray("config-file", nil, "configuration file; may be given several times (default "+DefaultConfig+")")
	return func() (*config.Config, error) {
		if len(*files) == 0 {
			*files = []string{DefaultConfig}
		}
		c, err := config.Load(*files...)
		if err != nil {
			return nil, usageError{err}
		}
		return c, nil
	}
}

// Node is the main function of vmthunder-node.
func Node(args []string) int {
	root := &cobra.Command{Use: "vmthunder-node", Short: "VMThunder's agent of one host", Args: cobra.NoArgs}
	load := configFlag(root)
	root.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := load()
		if err != nil {
			return err
		}
		if os.Geteuid() != 0 {
			return usageError{errors.New("the agent builds block devices and must run as root")}
		}
		log, err := wire.Log(c)
		if err != nil {
			return err
		}
		return wire.Node(cmd.Context(), c, log)
	}
	return execute(root, args)
}

// API is the main function of vmthunder-api.
func API(args []string) int {
	root := &cobra.Command{Use: "vmthunder-api", Short: "VMThunder's control plane", Args: cobra.NoArgs}
	load := configFlag(root)
	host := root.Flags().String("host", "", "name of this replica (default [DEFAULT] host)")
	port := root.Flags().Int("port", 0, "port to listen on (default [DEFAULT] osapi_volume_listen_port)")
	root.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := load()
		if err != nil {
			return err
		}
		if *host != "" {
			c.Host = *host
		}
		if *port != 0 {
			c.ListenPort = *port
		}
		log, err := wire.Log(c)
		if err != nil {
			return err
		}
		return wire.API(cmd.Context(), c, log)
	}
	return execute(root, args)
}
