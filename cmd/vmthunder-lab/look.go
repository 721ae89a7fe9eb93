package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/vmthunder/vmthunder/devstack/lab"
)

func (a *app) status() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "What runs", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := a.open()
			if err != nil {
				return err
			}
			s := l.Status(c.Context())
			return a.answer(s, func(w io.Writer) { printStatus(w, s) })
		},
	}
}

func printStatus(w io.Writer, s lab.Status) {
	fmt.Fprintf(w, "laboratory %s  state %s  namespace %s\n", s.Name, s.Dir, s.Namespace)
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	state := func(b bool) string {
		if b {
			return "up"
		}
		return "down"
	}
	for _, x := range s.Services {
		fmt.Fprintf(t, "%s\t%s\t%s\tpid %d\n", x.Name, state(x.Running), x.Address, x.Pid)
	}
	for _, x := range s.Nodes {
		st := state(x.Running)
		if x.Running && !x.Answers {
			st = "silent"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\tpid %d\t%d MiB\tdisks %d MiB\tcpu %.1f s\n", x.Name, st, x.Address, x.Pid, x.Memory, x.DiskUsed>>20, x.CPU)
	}
	_ = t.Flush()
}

func (a *app) log() *cobra.Command {
	return &cobra.Command{
		Use: "log NODE|SERVICE [PROGRAM]", Short: "Print a node's console, a program's output in a node, or a server's log", Args: cobra.RangeArgs(1, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			l, err := a.open()
			if err != nil {
				return err
			}
			path := l.LogPath(args[0])
			if n, err := l.Node(args[0]); err == nil {
				path = n.ConsolePath()
				if len(args) == 2 {
					path = n.LogPath(args[1])
				}
			}
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = io.Copy(a.stdout, f)
			return err
		},
	}
}

func (a *app) shape() *cobra.Command {
	return &cobra.Command{
		Use: "shape LINK RATE", Short: "Limit a link (NODE, NODE:in, NODE:out) to a rate such as 100mbit, or off", Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			l, err := a.open()
			if err != nil {
				return err
			}
			return l.Shape(c.Context(), args[0], args[1])
		},
	}
}

func (a *app) env() *cobra.Command {
	var user string
	c := &cobra.Command{
		Use: "env", Short: "Print the OS_* settings of an account; of use inside the namespace", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			l, err := a.open()
			if err != nil {
				return err
			}
			vars := l.OpenStackEnv(user)
			m := map[string]string{}
			for _, v := range vars {
				k, v, _ := strings.Cut(v, "=")
				m[k] = v
			}
			return a.answer(m, func(w io.Writer) {
				for _, v := range vars {
					fmt.Fprintln(w, "export "+v)
				}
			})
		},
	}
	c.Flags().StringVarP(&user, "user", "u", "admin", "admin or demo")
	return c
}

func (a *app) openstack() *cobra.Command {
	var user string
	c := &cobra.Command{
		Use: "os ARGUMENTS...", Short: "Run the openstack command inside the laboratory", Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			l, err := a.open()
			if err != nil {
				return err
			}
			cmd, err := l.OpenStack(user, args...)
			if err != nil {
				return err
			}
			cmd.Env = append(cmd.Env, "PYTHONPATH="+l.ExtensionDir()) // often there is none
			cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, a.stdout, a.stderr
			err = l.RunInside(cmd)
			if exit := new(exec.ExitError); errors.As(err, &exit) {
				a.code = exit.ExitCode()
				return nil // it has said why
			}
			return err
		},
	}
	c.Flags().StringVarP(&user, "user", "u", "admin", "admin or demo")
	c.Flags().SetInterspersed(false)
	return c
}
