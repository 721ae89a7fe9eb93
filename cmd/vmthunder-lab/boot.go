package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/vmthunder/vmthunder/devstack/lab"
)

func (a *app) boot() *cobra.Command {
	var limit time.Duration
	c := &cobra.Command{
		Use: "boot NODE DEVICE ID", Short: "Boot a virtual machine from a device in a node, with ID as its disk's serial", Args: cobra.ExactArgs(3),
		RunE: func(c *cobra.Command, args []string) error {
			l, err := a.open()
			if err != nil {
				return err
			}
			n, err := l.Node(args[0])
			if err != nil {
				return err
			}
			a.progress("booting %s on %s", args[1], args[0])
			b, err := lab.BootVM(c.Context(), n, args[1], args[2], limit)
			if err != nil {
				return err
			}
			return a.answer(b, func(w io.Writer) {
				fmt.Fprintf(w, "booted in %.1f s, id %s, boot %d\n", b.Duration.Seconds(), b.ID, b.Count)
			})
		},
	}
	c.Flags().DurationVar(&limit, "timeout", 2*time.Minute, "give up after")
	return c
}
