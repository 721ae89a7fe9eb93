package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/vmthunder/vmthunder/devstack/lab"
)

func (a *app) up() *cobra.Command {
	var o lab.Options
	var services, nodes string
	var memory int
	c := &cobra.Command{
		Use: "up", Short: "Make a laboratory", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o.Name, o.Progress = a.name, a.progress
			for _, s := range splitList(services) {
				if s == "all" {
					o.Services = append(o.Services, lab.AllServices()...)
				} else if s != "none" {
					o.Services = append(o.Services, lab.Service(s))
				}
			}
			for _, n := range splitList(nodes) {
				o.Nodes = append(o.Nodes, lab.NodeSpec{Name: n, Memory: memory})
			}
			l, err := lab.Up(c.Context(), o)
			if err != nil {
				return err
			}
			return a.answer(l.Status(c.Context()), func(w io.Writer) { fmt.Fprintln(w, l.Dir()) })
		},
	}
	f := c.Flags()
	f.StringVar(&services, "services", "all", "comma-separated: postgres,rabbit,memcached,keystone,glance, or all, or none")
	f.StringVar(&nodes, "nodes", "origin,node1,node2", "comma-separated names of nodes")
	f.IntVar(&memory, "memory", 0, "MiB of memory of each node (0: 256)")
	f.StringVar(&o.StateDir, "state", "", "state directory (default "+lab.BaseDir()+"/NAME)")
	f.StringVar(&o.TemplateDir, "cache", "", "directory of database templates and images, or none")
	f.BoolVar(&o.Images, "images", false, "register the boot image in Glance as ubuntu12 and ubuntu12-qcow2")
	return c
}
