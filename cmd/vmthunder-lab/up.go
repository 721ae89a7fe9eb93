package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vmthunder/vmthunder/devstack/lab"
)

func (a *app) up() *cobra.Command {
	var o lab.Options
	var services, nodes, computes string
	var memory int
	c := &cobra.Command{
		Use: "up", Short: "Make a laboratory", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o.Name, o.Progress = a.name, a.progress
			for _, s := range splitList(services) {
				switch s {
				case "base":
					o.Services = append(o.Services, lab.BaseServices()...)
				case "all":
					o.Services = append(o.Services, lab.AllServices()...)
				case "none":
				default:
					o.Services = append(o.Services, lab.Service(s))
				}
			}
			for _, n := range splitList(nodes) {
				o.Nodes = append(o.Nodes, lab.NodeSpec{Name: n, Memory: memory})
			}
			if c.Flags().Changed("computes") {
				o.Computes = append([]string{}, splitList(computes)...)
			}
			l, err := lab.Up(c.Context(), o)
			if err != nil {
				return err
			}
			return a.answer(l.Status(c.Context()), func(w io.Writer) { fmt.Fprintln(w, l.Dir()) })
		},
	}
	f := c.Flags()
	f.StringVar(&services, "services", "base", fmt.Sprintf("comma-separated, of %s; or base (the first five), or all, or none; and cinder, the real one", strings.Trim(fmt.Sprint(lab.AllServices()), "[]")))
	f.StringVar(&nodes, "nodes", "origin,node1,node2", "comma-separated names of nodes")
	f.StringVar(&computes, "computes", "", "comma-separated hosts that Nova has a compute service for (default: every node)")
	f.IntVar(&memory, "memory", 0, "MiB of memory of each node (0: 256)")
	f.StringVar(&o.StateDir, "state", "", "state directory (default "+lab.BaseDir()+"/NAME)")
	f.StringVar(&o.TemplateDir, "cache", "", "directory of database templates and images, or none")
	f.BoolVar(&o.Images, "images", false, "register the boot image in Glance as ubuntu12 and ubuntu12-qcow2")
	return c
}
