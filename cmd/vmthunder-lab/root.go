package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vmthunder/vmthunder/devstack/lab"
)

// app is what the subcommands share.
type app struct {
	name           string
	output         string
	stdout, stderr io.Writer
	code           int
}

func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	a := &app{stdout: stdout, stderr: stderr}
	cmd := a.root()
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	if err := cmd.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(stderr, "vmthunder-lab:", err)
		if a.code == 0 {
			a.code = 1
		}
	}
	return a.code
}

func (a *app) root() *cobra.Command {
	c := &cobra.Command{
		Use:           "vmthunder-lab",
		Short:         "A laboratory of real kernels and real OpenStack servers on one machine",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	name := os.Getenv(lab.EnvState)
	if name == "" {
		name = "lab"
	}
	c.PersistentFlags().StringVarP(&a.name, "lab", "l", name, "laboratory: a name, or a state directory")
	c.PersistentFlags().StringVarP(&a.output, "output", "o", "text", "answer as text or json")
	c.PersistentPreRunE = func(*cobra.Command, []string) error {
		if a.output != "text" && a.output != "json" {
			return fmt.Errorf("output %q: text or json", a.output)
		}
		return nil
	}
	c.AddCommand(a.up(), a.down(), a.status(), a.exec(), a.nodeCmd("kill", "Cut a node's power", (*lab.Node).Kill),
		a.nodeCmd("restart", "Cut a node's power and boot it again", (*lab.Node).Restart), a.log(), a.shape(), a.env(), a.openstack(), a.boot(),
		a.service("stop", "Stop a service", (*lab.Lab).Stop), a.service("start", "Start a service again", (*lab.Lab).Start))
	return c
}

func (a *app) open() (*lab.Lab, error) { return lab.Open(a.name) }

func (a *app) progress(format string, args ...any) {
	fmt.Fprintf(a.stderr, time.Now().Format("15:04:05")+" "+format+"\n", args...)
}

// answer prints v as JSON, or what text makes of it.
func (a *app) answer(v any, text func(io.Writer)) error {
	if a.output == "json" {
		e := json.NewEncoder(a.stdout)
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	text(a.stdout)
	return nil
}

func (a *app) nodeCmd(use, short string, f func(*lab.Node, context.Context) error) *cobra.Command {
	return &cobra.Command{
		Use: use + " NODE", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			l, err := a.open()
			if err != nil {
				return err
			}
			n, err := l.Node(args[0])
			if err != nil {
				return err
			}
			start := time.Now()
			if err := f(n, c.Context()); err != nil {
				return err
			}
			a.progress("%s %s: done in %.1f s", use, args[0], time.Since(start).Seconds())
			return nil
		},
	}
}

func (a *app) service(use, short string, f func(*lab.Lab, context.Context, lab.Service) error) *cobra.Command {
	return &cobra.Command{
		Use: use + " SERVICE", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			l, err := a.open()
			if err != nil {
				return err
			}
			return f(l, c.Context(), lab.Service(args[0]))
		},
	}
}

func (a *app) exec() *cobra.Command {
	var dir string
	var env []string
	c := &cobra.Command{
		Use: "exec NODE COMMAND...", Short: "Run a command in a node, with this terminal's streams and its exit status", Args: cobra.MinimumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			l, err := a.open()
			if err != nil {
				return err
			}
			n, err := l.Node(args[0])
			if err != nil {
				return err
			}
			argv := args[1:]
			if argv[0] == "--" {
				argv = argv[1:]
			}
			cmd := lab.Command{Argv: argv, Env: env, Dir: dir}
			if a.output == "json" {
				r, err := n.Exec(c.Context(), cmd, nil)
				if err != nil {
					return err
				}
				a.code = r.Code
				return a.answer(r, nil)
			}
			a.code, err = n.Stream(c.Context(), cmd, lab.Streams{Stdin: stdin(), Stdout: a.stdout, Stderr: a.stderr})
			return err
		},
	}
	c.Flags().StringVarP(&dir, "dir", "C", "/", "working directory in the node")
	c.Flags().StringArrayVarP(&env, "env", "e", nil, "KEY=VALUE for the command")
	c.Flags().SetInterspersed(false)
	return c
}

// stdin is the standard input unless it is a terminal or absent: a terminal's read
// could not be cancelled when the command ends.
func stdin() io.Reader {
	st, err := os.Stdin.Stat()
	if err != nil || st.Mode()&os.ModeCharDevice != 0 {
		return nil
	}
	return os.Stdin
}

func (a *app) down() *cobra.Command {
	var stale bool
	c := &cobra.Command{
		Use: "down", Short: "Take the laboratory down and remove all of it", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			start := time.Now()
			if !stale {
				l, err := a.open()
				if err != nil {
					return err
				}
				if err := l.Down(c.Context()); err != nil {
					return err
				}
				a.progress("%s is down after %.1f s", l.Name(), time.Since(start).Seconds())
				return nil
			}
			labs, err := lab.List()
			var errs []error
			for _, l := range labs {
				if pid, running := l.Owner(); pid != 0 && !running {
					a.progress("%s belonged to process %d, which is gone", l.Dir(), pid)
					errs = append(errs, l.Down(c.Context()))
				}
			}
			return errors.Join(append(errs, err)...)
		},
	}
	c.Flags().BoolVar(&stale, "stale", false, "instead, all laboratories whose owner has ended")
	return c
}

func splitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}
