package lab

import (
	"context"
	"path/filepath"
	"strconv"
)

// NeutronArg is the argument by which vmthunder-lab runs the stub of Neutron; the next one
// is the address to listen on.
const NeutronArg = "neutron"

// NeutronURL is the stub of the networking API, which is not in the catalog.
func (l *Lab) NeutronURL() string { return "http://" + HostAddress + ":" + strconv.Itoa(PortNeutron) }

func (l *Lab) startNeutron(ctx context.Context) error {
	p, err := l.startProc(spec{
		name: string(Neutron), argv: []string{l.st.Binary, NeutronArg, hostPort(PortNeutron)}, dir: "/",
		env: cleanEnv(filepath.Join(l.dir, "home")), log: l.LogPath(string(Neutron)),
	})
	if err != nil {
		return err
	}
	return ready(ctx, p, func(ctx context.Context) error {
		c, err := l.DialContext(ctx, "tcp", hostPort(PortNeutron))
		if err != nil {
			return err
		}
		return c.Close()
	})
}
