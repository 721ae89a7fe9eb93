package demo

import (
	"fmt"
	"time"
)

const mib = 1 << 20

func report(o Options, m measured) {
	p := func(format string, args ...any) { fmt.Fprintf(o.Out, format+"\n", args...) }
	p("")
	p("VMThunder demo: 1 origin and %d compute nodes (user-mode Linux), tree of degree %d", o.Compute, o.Degree)
	p("")
	p("laboratory, services and agents up      %8.1f s", m.up.Seconds())
	p("first volume, with import of the image  %8.2f s", m.image.Seconds())
	p("")
	p("$ %s", m.volumes.line)
	p("  the whole command                     %8.2f s   (it starts Python, asks Keystone and Glance, and prints)", m.volumes.took.Seconds())
	p("  of that the server, first request to")
	p("  last of %3d volumes available         %8.3f s   (%d requests, %.0f ms of work)",
		o.Volumes, m.volumes.server.Seconds(), m.volumes.requests.count, ms(m.volumes.requests.worked))
	p("")
	p("attach, from request to device          ")
	for i, a := range m.attach {
		kind := "cold image"
		if i >= o.Compute {
			kind = "warm image"
		}
		p("  %-8s %-10s %8.0f ms   %s", a.node, kind, ms(a.took), a.device)
	}
	p("")
	p("boot from the volume (QEMU emulation inside the node, one on each node at once)")
	for i, b := range m.boots {
		kind := "cold image"
		if i >= o.Compute {
			kind = "warm image"
		}
		p("  %-8s %-10s BOOTED %-16s %8.1f s", b.node, kind, b.vm.ID, b.vm.Duration.Seconds())
	}
	p("")
	p("who sent and read how much of the image")
	var upstream, asked int64
	for _, x := range m.members {
		if x.Role == "root" {
			p("  %-8s sent %8.2f MiB: %.2f times the %.2f MiB of distinct 4 KiB blocks it was asked for",
				x.Host, float64(x.ServedBytes)/mib, ratio(x.ServedBytes, m.unique), float64(m.unique)/mib)
			continue
		}
		upstream, asked = upstream+x.UpstreamBytes, asked+x.ReadBytes+x.ServedBytes
		p("  %-8s read %8.2f MiB from %-8s sent %8.2f MiB, its volumes read %8.2f MiB, hit ratio %3.0f %%",
			x.Host, float64(x.UpstreamBytes)/mib, x.Parent, float64(x.ServedBytes)/mib, float64(x.ReadBytes)/mib,
			100*max(0, 1-ratio(x.UpstreamBytes, x.ReadBytes+x.ServedBytes)))
	}
	p("  hit ratio of all relays: %.0f %% of what volumes and children read was there already", 100*max(0, 1-ratio(upstream, asked)))
	p("")
	p("%s", m.tree)
	if m.deleted > 0 {
		p("everything detached and deleted         %8.2f s", m.deleted.Seconds())
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func ratio(a, b int64) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}
